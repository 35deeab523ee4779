/* What torch does slowly on a CPU: extremes of rows with their places, and products with chosen tokens.
   Compiled on first use by compiled.py, which also says what every function is equal to. Plain C with the vector
   extensions of GCC and Clang; -march=native makes of a vector whatever the processor has. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define LANES 16
typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t ints __attribute__((vector_size(4 * LANES), aligned(4)));

static inline floats float_or(ints which, floats a, floats b) { return (floats)((which & (ints)a) | (~which & (ints)b)); }
static inline ints int_or(ints which, ints a, ints b) { return (which & a) | (~which & b); }

/* The largest of `sign` * value in one row and its first place; `best` and `place` hold the lanes' own. */
static inline void conclude(const floats *best, const ints *place, float *value, int64_t *at) {
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

/* SCORES(i): a vector of scores; SCORE(i): one. Row r is clip r % clips of prototype r / clips. A penalty of -inf takes a
   token out. Output: high[clip * stride + prototype] and so on; low may be NULL. */
#define EXTREMES(SCORES, SCORE)                                                                                          \
    for (int64_t r = begin; r < end; r++) {                                                                              \
        const int64_t clip = r % clips, out = clip * stride + r / clips;                                                 \
        const float *out_of = penalty ? penalty + clip * n : NULL;                                                       \
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
            if (out_of) {                                                                                                \
                const floats off = *(const floats *)(out_of + i);                                                        \
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
        conclude(&top, &top_at, &best, &best_at);                                                                        \
        conclude(&bottom, &bottom_at, &worst, &worst_at);                                                                \
        for (; i < n; i++) {                                                                                             \
            const float v = SCORE(i), off = out_of ? out_of[i] : 0.0f;                                                   \
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

/* out[r] = <tokens[clip, index[r]], prototypes[k]> with r = clip * count + k. */
void chosen_products(int64_t begin, int64_t end, const float *tokens, const float *prototypes, const int64_t *index,
                     int64_t count, int64_t n, int64_t d, float *out) {
    for (int64_t r = begin; r < end; r++) {
        const float *z = tokens + ((r / count) * n + index[r]) * d, *p = prototypes + (r % count) * d;
        floats even = {0}, odd = {0};
        int64_t i = 0;
        for (; i + 2 * LANES <= d; i += 2 * LANES) {
            even += *(const floats *)(z + i) * *(const floats *)(p + i);
            odd += *(const floats *)(z + i + LANES) * *(const floats *)(p + i + LANES);
        }
        even += odd;
        float sum = 0;
        for (int lane = 0; lane < LANES; lane++) sum += even[lane];
        for (; i < d; i++) sum += z[i] * p[i];
        out[r] = sum;
    }
}

/* total[k] += sum over b of weight[b, k] * tokens[b, index[b, k]]. */
void add_chosen(int64_t begin, int64_t end, const float *tokens, const float *weight, const int64_t *index, int64_t clips,
                int64_t count, int64_t n, int64_t d, float *total) {
    for (int64_t k = begin; k < end; k++) {
        float *sum = total + k * d;
        for (int64_t b = 0; b < clips; b++) {
            const float w = weight[b * count + k], *z = tokens + (b * n + index[b * count + k]) * d;
            for (int64_t i = 0; i < d; i++) sum[i] += w * z[i];
        }
    }
}
