/* Operations that are slow in torch on a CPU: extremes of rows with their indices, and products with selected tokens.
   Compiled on first use by _compiled.py, which documents every function. Plain C with the vector extensions of GCC and
   Clang; -march=native translates a vector to the registers of the processor. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define LANES 16
typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t ints __attribute__((vector_size(4 * LANES), aligned(4)));

static inline floats float_or(ints which, floats a, floats b) { return (floats)((which & (ints)a) | (~which & (ints)b)); }
static inline ints int_or(ints which, ints a, ints b) { return (which & a) | (~which & b); }

/* The largest value of one row and its first index, from the largest value and index of every lane. */
static inline void reduce_lanes(const floats *best, const ints *place, float *value, int64_t *at) {
    float top = -INFINITY;
    int32_t first = INT32_MAX;
    for (int lane = 0; lane < LANES; lane++) {
        float candidate = (*best)[lane];
        int32_t n = (*place)[lane] + lane;
        if (candidate > top || (candidate == top && n < first)) {
            top = candidate;
            first = n;
        }
    }
    *value = top;
    *at = first;
}

/* SCORES(i): a vector of scores; SCORE(i): one score. Row r belongs to clip r % clips and prototype r / clips. A penalty of
   -inf excludes a token. Output: high[clip * stride + prototype], likewise the others; low may be NULL. */
#define EXTREMES(SCORES, SCORE)                                                                                          \
    for (int64_t r = begin; r < end; r++) {                                                                              \
        const int64_t clip = r % clips, out = clip * stride + r / clips;                                                 \
        const float *offset = penalty ? penalty + clip * n : NULL;                                                       \
        floats top, bottom;                                                                                              \
        ints top_at, bottom_at;                                                                                          \
        for (int lane = 0; lane < LANES; lane++) {                                                                       \
            top[lane] = bottom[lane] = -INFINITY;                                                                        \
            top_at[lane] = bottom_at[lane] = 0;                                                                          \
        }                                                                                                                \
        int64_t i = 0;                                                                                                   \
        for (; i + LANES <= n; i += LANES) {                                                                             \
            const ints here = (ints){0} + (int32_t)i;                                                                    \
            floats v = SCORES(i), up = v, down = -v;                                                                     \
            if (offset) {                                                                                                \
                const floats off = *(const floats *)(offset + i);                                                        \
                up += off;                                                                                               \
                down += off;                                                                                             \
            }                                                                                                            \
            ints better = up > top;                                                                                      \
            top = float_or(better, up, top);                                                                             \
            top_at = int_or(better, here, top_at);                                                                       \
            if (low) {                                                                                                   \
                better = down > bottom;                                                                                  \
                bottom = float_or(better, down, bottom);                                                                 \
                bottom_at = int_or(better, here, bottom_at);                                                             \
            }                                                                                                            \
        }                                                                                                                \
        float best, worst;                                                                                               \
        int64_t best_at, worst_at;                                                                                       \
        reduce_lanes(&top, &top_at, &best, &best_at);                                                                        \
        reduce_lanes(&bottom, &bottom_at, &worst, &worst_at);                                                                \
        for (; i < n; i++) {                                                                                             \
            const float v = SCORE(i), off = offset ? offset[i] : 0.0f;                                                   \
            if (v + off > best) best = v + off, best_at = i;                                                             \
            if (off - v > worst) worst = off - v, worst_at = i;                                                          \
        }                                                                                                                \
        high[out] = best > -INFINITY ? best : NAN;                                                                       \
        argmax[out] = best > -INFINITY ? best_at : 0;                                                                    \
        if (low) {                                                                                                       \
            low[out] = worst > -INFINITY ? 0.0f - worst : NAN;                                                               \
            argmin[out] = worst > -INFINITY ? worst_at : 0;                                                              \
        }                                                                                                                \
    }

void extremes_float(int64_t begin, int64_t end, const float *scores, const float *penalty, int64_t clips, int64_t n,
                    int64_t stride, float *high, int64_t *argmax, float *low, int64_t *argmin) {
#define SCORES(i) (*(const floats *)(scores + r * n + (i)))
#define SCORE(i) (scores[r * n + (i)])
    EXTREMES(SCORES, SCORE)
#undef SCORES
#undef SCORE
}

void extremes_int(int64_t begin, int64_t end, const int32_t *scores, const float *factor, const float *penalty,
                  int64_t clips, int64_t n, int64_t stride, float *high, int64_t *argmax, float *low, int64_t *argmin) {
#define SCORES(i) (__builtin_convertvector(*(const ints *)(scores + r * n + (i)), floats) * *(const floats *)(factor + clip * n + (i)))
#define SCORE(i) ((float)scores[r * n + (i)] * factor[clip * n + (i)])
    EXTREMES(SCORES, SCORE)
#undef SCORES
#undef SCORE
}

static inline float sum_of(floats lanes) {
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
    return sum;
}

static inline float dot(const float *z, const float *p, int64_t d) {
    floats parts[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 * LANES <= d; i += 4 * LANES)
        for (int part = 0; part < 4; part++)
            parts[part] += *(const floats *)(z + i + part * LANES) * *(const floats *)(p + i + part * LANES);
    float sum = sum_of((parts[0] + parts[1]) + (parts[2] + parts[3]));
    for (; i < d; i++) sum += z[i] * p[i];
    return sum;
}

/* out[r] = <tokens[clip, index[r]], prototypes[k]> with r = clip * count + k. */
void selected_products(int64_t begin, int64_t end, const float *tokens, const float *prototypes, const int64_t *index,
                     int64_t count, int64_t n, int64_t d, float *out) {
    for (int64_t r = begin; r < end; r++) {
        out[r] = dot(tokens + ((r / count) * n + index[r]) * d, prototypes + (r % count) * d, d);
    }
}

/* total[k] += sum over b of weight[b, k] * tokens[b, index[b, k]]. */
void add_selected(int64_t begin, int64_t end, const float *tokens, const float *weight, const int64_t *index,
                  int64_t clips, int64_t count, int64_t n, int64_t d, float *total) {
    for (int64_t k = begin; k < end; k++) {
        float *sum = total + k * d;
        for (int64_t b = 0; b < clips; b++) {
            const float w = weight[b * count + k], *z = tokens + (b * n + index[b * count + k]) * d;
            for (int64_t i = 0; i < d; i++) sum[i] += w * z[i];
        }
    }
}

static inline float larger(float a, float b) { return a > b ? a : b; }

/* Round rows of width d, minus the centre of their group of n rows, to scale[r] * values[r]: 255 levels, none finer than
   least. error[r] is the length of what rounding removed, length[r] the length of the rounded row. */
void levels(int64_t begin, int64_t end, const float *rows, const float *centres, int64_t n, int64_t d, const float *least,
            int8_t *values, float *scale, float *error, float *length) {
    for (int64_t r = begin; r < end; r++) {
        const float *z = rows + r * d, *centre = centres + r / n * d;
        int8_t *out = values + r * d;
        float peak = 127 * *least;
        for (int64_t i = 0; i < d; i++) peak = larger(peak, fabsf(z[i] - centre[i]));
        const float unit = peak / 127, inverse = 1 / unit, round = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
        floats removed = {0}, remaining = {0};
        int64_t i = 0;
        for (; i + LANES <= d; i += LANES) {
            const floats x = (*(const floats *)(z + i) - *(const floats *)(centre + i)) * inverse, q = (x + round) - round;
            for (int lane = 0; lane < LANES; lane++) out[i + lane] = (int8_t)q[lane];
            removed += (x - q) * (x - q);
            remaining += q * q;
        }
        float removed_sum = sum_of(removed), remaining_sum = sum_of(remaining);
        for (; i < d; i++) {
            const float x = (z[i] - centre[i]) * inverse, q = (x + round) - round;
            out[i] = (int8_t)q;
            removed_sum += (x - q) * (x - q);
            remaining_sum += q * q;
        }
        scale[r] = unit;
        error[r] = unit * sqrtf(removed_sum);
        length[r] = unit * sqrtf(remaining_sum);
    }
}

/* The products of one clip's tokens with one prototype, as far as they are known: scale * factor[i] * scores[i] + shift, off
   by at most error[i] * length_bound + length[i] * prototype_error, which is at most `largest_bound`. A penalty of -inf
   excludes a token. */
typedef struct {
    const int32_t *scores;
    const float *factor, *error, *length, *penalty, *tokens, *prototype;
    float scale, length_bound, prototype_error, shift, largest_bound;
    int64_t n, d;
} Products;

static inline floats estimate(const Products *k, int64_t i, floats scale) {
    const floats score = __builtin_convertvector(*(const ints *)(k->scores + i), floats);
    const floats v = score * *(const floats *)(k->factor + i) * scale;
    return k->penalty ? v + *(const floats *)(k->penalty + i) : v;
}

static inline float estimate_one(const Products *k, int64_t i, float scale) {
    return (float)k->scores[i] * k->factor[i] * scale + (k->penalty ? k->penalty[i] : 0.0f);
}

static inline float bound_one(const Products *k, int64_t i) { return k->error[i] * k->length_bound + k->length[i] * k->prototype_error; }

static inline floats upper_bound(const Products *k, int64_t i, floats scale) {
    const floats error = *(const floats *)(k->error + i) * k->length_bound + *(const floats *)(k->length + i) * k->prototype_error;
    return estimate(k, i, scale) + error;
}

/* One bit for each lane that is `least` or more. */
static inline uint32_t at_least(floats values, float least) {
#ifdef __AVX512F__
    return _mm512_cmp_ps_mask((__m512)values, _mm512_set1_ps(least), _CMP_GE_OQ);
#else
    uint32_t bits = 0;
    for (int lane = 0; lane < LANES; lane++) bits |= (uint32_t)(values[lane] >= least) << lane;
    return bits;
#endif
}

/* The largest estimates of a row: of each block of `width` vectors by lane, and of the remaining tokens. */
#define BLOCKS 32
typedef struct {
    floats top[BLOCKS];
    int64_t blocks, width, vectors;
    float best;
} Tops;

static void find_tops(const Products *k, float scale, Tops *tops) {
    const floats lowest = (floats){0} - INFINITY, factor = (floats){0} + scale;
    floats best = lowest;
    tops->vectors = k->n / LANES;
    tops->width = tops->vectors > 4 * BLOCKS ? (tops->vectors + BLOCKS - 1) / BLOCKS : 4;
    tops->blocks = (tops->vectors + tops->width - 1) / tops->width;
    for (int64_t b = 0; b < tops->blocks; b++) {
        const int64_t end = (b + 1) * tops->width < tops->vectors ? (b + 1) * tops->width : tops->vectors;
        floats top = lowest;
        for (int64_t j = b * tops->width; j < end; j++) {
            const floats v = estimate(k, j * LANES, factor);
            top = float_or(v > top, v, top);
        }
        tops->top[b] = top;
        best = float_or(top > best, top, best);
    }
    tops->best = -INFINITY;
    for (int lane = 0; lane < LANES; lane++) tops->best = larger(tops->best, best[lane]);
    for (int64_t i = tops->vectors * LANES; i < k->n; i++) tops->best = larger(tops->best, estimate_one(k, i, scale));
}

/* A token whose estimate is the largest, up to rounding. */
static int64_t find_best(const Products *k, float scale, const Tops *tops) {
    for (int64_t b = 0; b < tops->blocks; b++) {
        if (!at_least(tops->top[b], tops->best)) continue;
        for (int64_t j = b * tops->width; j < tops->vectors; j++) {
            const uint32_t bits = at_least(estimate(k, j * LANES, (floats){0} + scale), tops->best);
            if (bits) return j * LANES + __builtin_ctz(bits);
        }
    }
    int64_t at = tops->vectors * LANES < k->n ? tops->vectors * LANES : 0;
    for (int64_t i = at + 1; i < k->n; i++)
        if (estimate_one(k, i, scale) > estimate_one(k, at, scale)) at = i;
    return at;
}

/* The largest product found so far. Only tokens whose upper bound is `floor` or more are multiplied. */
typedef struct {
    float value, floor;
    int64_t at, count;
} Found;

static inline void multiply(const Products *k, float sign, int64_t i, Found *found) {
    const float v = sign * dot(k->tokens + i * k->d, k->prototype, k->d);
    if (v > found->value || (v == found->value && i < found->at)) found->value = v, found->at = i;
    found->floor = larger(found->floor, v - sign * k->shift);
    found->count++;
}

/* The largest `sign` * product and its first index. The token with the largest estimate is multiplied first, then those that
   can have a larger product. Returns 0 if there are more than MAX_CANDIDATES of them, or none. */
#define MAX_CANDIDATES 24
static int search(const Products *k, float sign, float *value, int64_t *at) {
    const float scale = sign * k->scale;
    Tops tops;
    find_tops(k, scale, &tops);
    if (!(tops.best > -INFINITY)) return 0;
    const int64_t first = find_best(k, scale, &tops);
    Found found = {-INFINITY, -INFINITY, first, 0};
    multiply(k, sign, first, &found);
    for (int64_t b = 0; b < tops.blocks; b++) {
        if (!at_least(tops.top[b], found.floor - k->largest_bound)) continue;
        const int64_t end = (b + 1) * tops.width < tops.vectors ? (b + 1) * tops.width : tops.vectors;
        for (int64_t j = b * tops.width; j < end; j++) {
            uint32_t bits = at_least(upper_bound(k, j * LANES, (floats){0} + scale), found.floor);
            for (; bits; bits &= bits - 1) {
                const int64_t i = j * LANES + __builtin_ctz(bits);
                if (i != first) multiply(k, sign, i, &found);
                if (found.count > MAX_CANDIDATES) return 0;
            }
        }
    }
    for (int64_t i = tops.vectors * LANES; i < k->n; i++)
        if (i != first && estimate_one(k, i, scale) + bound_one(k, i) >= found.floor) multiply(k, sign, i, &found);
    *value = found.value, *at = found.at;
    return found.count <= MAX_CANDIDATES;
}

/* Extremes as above, of products <tokens, prototypes> with rounded products `scores`. An index of -1 means that too many
   tokens can be the extreme. */
void bounded(int64_t begin, int64_t end, const int32_t *scores, const float *penalty, const float *factor,
             const float *error, const float *length, const float *largest_error, const float *largest_length,
             const float *tokens, const float *prototypes, const float *scale, const float *length_bound,
             const float *prototype_error, const float *shift, int64_t clips, int64_t n, int64_t d, int64_t stride,
             float *high, int64_t *argmax, float *low, int64_t *argmin) {
    for (int64_t r = begin; r < end; r++) {
        const int64_t clip = r % clips, p = r / clips, out = clip * stride + p;
        const float largest_bound = 1.0001f * (largest_error[clip] * length_bound[p] + largest_length[clip] * prototype_error[p]);
        const Products products = {scores + r * n, factor + clip * n, error + clip * n, length + clip * n,
                             penalty ? penalty + clip * n : NULL, tokens + clip * n * d, prototypes + p * d,
                             scale[p], length_bound[p], prototype_error[p], shift[r], largest_bound, n, d};
        if (!search(&products, 1, high + out, argmax + out)) argmax[out] = -1;
        if (!low) continue;
        if (!search(&products, -1, low + out, argmin + out)) argmin[out] = -1;
        low[out] = -low[out];
    }
}

/* Whether the processor has units for int8 products, with exact sums in int32. */
int has_integer_units(void) {
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
    return 1;
#else
    return 0;
#endif
}
