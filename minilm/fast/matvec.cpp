// y = x w^T + bias for few rows of x: x (B, I) in float32, w (O, I) in float32, bfloat16 or int8, y (B, O) in float32.
//
// With one row each weight is read once and used once, so memory sets the pace: fewer bytes a weight are more tokens a second.
// Weights become float32 in registers, never in memory. With several rows a weight, once there, serves them all.
// int8 weights have a scale for each group of neighbouring inputs; what a group adds up to is multiplied by it once.
// Built by minilm/fast/matvec.py, with the system's compiler, at first use.

#include <algorithm>
#include <cstdint>
#include <cstring>
#ifdef __AVX2__
#include <immintrin.h>
#endif


namespace {

constexpr long LANES = 8, WIDTH = 3;
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));  // eight numbers that the processor treats as one
typedef int32_t Wide __attribute__((vector_size(LANES * sizeof(int32_t))));
typedef uint32_t Bits __attribute__((vector_size(LANES * sizeof(uint32_t))));
typedef int8_t Bytes __attribute__((vector_size(LANES * sizeof(int8_t))));
typedef uint16_t Halves __attribute__((vector_size(LANES * sizeof(uint16_t))));

struct BFloat16 { uint16_t bits; };  // the upper half of a float32

template <class Vector, class Number> inline Vector read(const Number* from) {
    Vector value;
    std::memcpy(&value, from, sizeof value);  // one load, of any alignment
    return value;
}
inline Lanes load(const float* w) { return read<Lanes>(w); }
#ifdef __AVX2__  // the general form below is four instructions longer
inline Lanes load(const int8_t* w) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(w))); }
#else
inline Lanes load(const int8_t* w) { return __builtin_convertvector(__builtin_convertvector(read<Bytes>(w), Wide), Lanes); }
#endif
inline Lanes load(const BFloat16* w) {
    Bits bits = __builtin_convertvector(read<Halves>(w), Bits) << 16;
    return read<Lanes>(&bits);
}
inline float number(float w) { return w; }
inline float number(int8_t w) { return w; }
inline float number(BFloat16 w) {
    uint32_t bits = uint32_t(w.bits) << 16;
    return read<float>(&bits);
}

inline float sum(Lanes v) {
    float total = 0;
    for (long lane = 0; lane < LANES; lane++) total += v[lane];
    return total;
}

struct Task {
    const float* x;
    const float* scales;  // (O, I / group), or none
    const float* bias;    // (O,), or none
    float* y;
    long n_in, n_out, group;
};

// C outputs from `o` on, of R rows from `b` on. The accumulators of this tile stay in registers.
template <int C, int R, class Weight> void tile(const Task& task, const Weight* w, long o, long b) {
    const long I = task.n_in, groups = (I + task.group - 1) / task.group;
    Lanes totals[C][R] = {};
    float rests[C][R] = {};
    for (long g = 0; g < groups; g++) {
        const long start = g * task.group, end = std::min(start + task.group, I);
        Lanes sums[C][R] = {};
        float tails[C][R] = {};
        long i = start;
        for (; i + LANES <= end; i += LANES) {
            Lanes weights[C];
            for (int c = 0; c < C; c++) weights[c] = load(w + (o + c) * I + i);
            for (int r = 0; r < R; r++) {
                const Lanes x = load(task.x + (b + r) * I + i);
                for (int c = 0; c < C; c++) sums[c][r] += weights[c] * x;
            }
        }
        for (; i < end; i++)
            for (int c = 0; c < C; c++)
                for (int r = 0; r < R; r++) tails[c][r] += number(w[(o + c) * I + i]) * task.x[(b + r) * I + i];
        for (int c = 0; c < C; c++) {
            const float scale = task.scales ? task.scales[(o + c) * groups + g] : 1.0f;
            for (int r = 0; r < R; r++) {
                totals[c][r] += sums[c][r] * scale;
                rests[c][r] += tails[c][r] * scale;
            }
        }
    }
    for (int c = 0; c < C; c++)
        for (int r = 0; r < R; r++)
            task.y[(b + r) * task.n_out + o + c] = sum(totals[c][r]) + rests[c][r] + (task.bias ? task.bias[o + c] : 0.0f);
}

template <int C, class Weight> void outputs(const Task& task, const Weight* w, long o, long rows) {
    long b = 0;
    for (; b + 4 <= rows; b += 4) tile<C, 4>(task, w, o, b);
    if (rows - b == 3) tile<C, 3>(task, w, o, b);
    if (rows - b == 2) tile<C, 2>(task, w, o, b);
    if (rows - b == 1) tile<C, 1>(task, w, o, b);
}

template <class Weight> void product(const Task& task, const Weight* w, long rows, int threads) {
    const long whole = task.n_out / WIDTH;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long n = 0; n < whole; n++) outputs<WIDTH>(task, w, WIDTH * n, rows);
    for (long o = WIDTH * whole; o < task.n_out; o++) outputs<1>(task, w, o, rows);
}

}  // namespace

#define ENTRY(name, Weight)                                                                                        \
    extern "C" void name(const float* x, const void* w, const float* scales, const float* bias, float* y, long rows, \
                         long n_in, long n_out, long group, int threads) {                                         \
        product({x, scales, bias, y, n_in, n_out, group}, static_cast<const Weight*>(w), rows, threads);           \
    }

ENTRY(product_float32, float)
ENTRY(product_bfloat16, BFloat16)
ENTRY(product_int8, int8_t)
