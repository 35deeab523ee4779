"""Audio: decoding files (`decode`), resampling (`resample`), waveforms of clips (`waveform`), mel filters (`fbank`)."""
