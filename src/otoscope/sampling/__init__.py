"""Which clips a training sees: stratified cuts, few-shot draws, mixup views, and subsets of a bank."""
