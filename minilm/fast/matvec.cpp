// Products of few rows, y = x w^T + bias, and made of them a step of a GPT: one new token a row, through all layers.
// With one row each weight is read once and used once, so memory sets the pace: fewer bytes a weight are more tokens.
// Weights become float32 in registers, never in memory. int8 has a scale for each group of neighbouring inputs.
// All threads go side by side: an `omp for` shares out a loop, and waits until all of it is done.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#define WIDER(bytes) _mm256_cvtepi8_epi32(_mm_loadu_si64(bytes))  // three times as fast as what compilers make of the other
#else
#define WIDER(bytes) __builtin_convertvector(read<Eight<int8_t>>(bytes), Eight<int32_t>)
#endif
namespace {
constexpr long LANES = 8, WIDTH = 3;  // of a vector, of a tile
template <class Number, long n = LANES> using Eight __attribute__((vector_size(n * sizeof(Number)))) = Number;
using Lanes = Eight<float>;  // eight numbers that the processor treats as one
using Half = Eight<float, LANES / 2>;
// Python knows the first four as well. numbers (O, I), scales (O, I / group) or none, bias (O,) or none; bytes a number:
// 4 (float32), 2 (bfloat16, its upper half), 1 (int8). An RMS norm is not centred. keys, values of a layer (B, G, slots, K).
struct Matrix { const void* numbers; const float *scales, *bias; long n_in, n_out, group, bytes; };
struct Norm { const float *scale, *shift; float eps; int centred; };
struct Layer { Norm attention_norm, mlp_norm; Matrix qkv, out, up, down, gate; };  // a gate makes the MLP a SwiGLU
struct Step { const Layer* layers; long n_layers, D, H, G, K, B, past, slots; float **keys, **values, *cos, *sin; };
struct Product { const Matrix& m; const float* x; float* y; long rows; bool adds; };  // adds: to what y holds
template <class Vector, class From> inline Vector read(const From* from) {
    Vector value;
    std::memcpy(&value, from, sizeof value);  // one load, of any alignment
    return value;
}
inline Lanes load(const float* w) { return read<Lanes>(w); }
inline Lanes load(const uint16_t* w) { return (Lanes)(__builtin_convertvector(read<Eight<uint16_t>>(w), Eight<uint32_t>) << 16); }
inline Lanes load(const int8_t* w) { return __builtin_convertvector((Eight<int32_t>)WIDER(w), Lanes); }
template <class Number> inline Lanes load(const Number* from, long n) {  // n numbers, and zeros behind them
    if (n == LANES) return load(from);
    Number part[LANES] = {};
    std::copy(from, from + n, part);
    return load(part);
}
inline Half pairs(Half a, Half b) { return Half{a[0] + a[1], a[2] + a[3], b[0] + b[1], b[2] + b[3]}; }
// R rows from `b` on. One takes output `o` in the order in which its weights lie, the fastest for memory, in four sums that
// do not wait for each other. Several take WIDTH outputs, whose weights they share. The sums stay in registers.
template <int R, class Weight> void tile(const Product& p, long o, long b) {
    constexpr int N = R == 1 ? 1 : R * WIDTH, U = R == 1 ? 4 : 1;  // number n is output o + n / R of row b + n % R
    const Matrix& m = p.m;
    const Weight* w = static_cast<const Weight*>(m.numbers) + o * m.n_in;
    const long groups = (m.n_in + m.group - 1) / m.group;
    Lanes totals[N] = {};
    for (long g = 0; g < groups; g++) {
        Lanes sums[U][N] = {};
        auto add = [&](int u, long i, long lanes) __attribute__((always_inline)) {
            for (int n = 0; n < N; n++)
                sums[u][n] += load(w + n / R * m.n_in + i, lanes) * load(p.x + (b + n % R) * m.n_in + i, lanes);
        };
        long i = g * m.group, end = std::min(i + m.group, m.n_in);
        for (; i + U * LANES <= end; i += U * LANES)
            for (int u = 0; u < U; u++) add(u, i + u * LANES, LANES);
        for (; i < end; i += LANES) add(0, i, std::min(LANES, end - i));
        for (int n = 0; n < N; n++) {
            for (int u = 1; u < U; u++) sums[0][n] += sums[u][n];
            totals[n] += sums[0][n] * (m.scales ? m.scales[(o + n / R) * groups + g] : 1.0f);
        }
    }
    for (int n = 0; n < N; n += R) {  // R sums, by halves: an addition waits for the one before
        auto half = [&](int r) { return read<Half>(&totals[n + r % R]) + read<Half>((float*)&totals[n + r % R] + LANES / 2); };
        const Half dots = pairs(pairs(half(0), half(1)), pairs(half(2), half(3)));
        float* y = p.y + b * m.n_out + o + n / R;
        for (int r = 0; r < R; r++, y += m.n_out) *y = (p.adds ? *y : 0) + (m.bias ? m.bias[o + n / R] : 0) + dots[r];
    }
}
template <class Weight> void outputs(const Product& p, long o) {  // WIDTH of them, or those that are left
    long b = 0;
    for (; b + 4 <= p.rows && o + WIDTH <= p.m.n_out; b += 4) tile<4, Weight>(p, o, b);
    for (; b < p.rows; b++)
        for (long c = o; c < std::min(o + WIDTH, p.m.n_out); c++) tile<1, Weight>(p, c, b);
}
void multiply(const Product& p) {
#pragma omp for schedule(static)
    for (long o = 0; o < p.m.n_out; o += WIDTH)
        p.m.bytes == 4 ? outputs<float>(p, o) : p.m.bytes == 2 ? outputs<uint16_t>(p, o) : outputs<int8_t>(p, o);
}
inline float exponential(float x) {  // 2^n e^r, |r| <= ln 2 / 2, e^r by a polynomial
    const float bounded = std::min(std::max(x, -87.0f), 88.0f), n = std::nearbyint(bounded * 1.44269504f);
    const float r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    const int32_t bits = (int32_t(n) + 127) << 23;
    return read<float>(&bits) * (1 + r * (1 + r * (1 / 2.f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r / 720))))));
}
void normalise(const Norm& norm, const float* all, float* to, long rows, long D) {
#pragma omp for schedule(static)
    for (long b = 0; b < rows; b++) {
        const float* x = all + b * D;
        float mean = 0, square = 0;
        for (long d = 0; norm.centred && d < D; d++) mean += x[d] / D;
        for (long d = 0; d < D; d++) square += (x[d] - mean) * (x[d] - mean);
        const float by = 1 / std::sqrt(square / D + norm.eps);
        for (long d = 0; d < D; d++) to[b * D + d] = (x[d] - mean) * by * norm.scale[d] + (norm.shift ? norm.shift[d] : 0);
    }
}
// The new keys and values go into the cache, and the queries look at all: qkv (B, (H + 2 G) K) -> seen (B, H K).
void attend(const Step& s, float* keys, float* values, float* qkv, float* seen) {
    const long K = s.K, share = s.H / s.G, S = s.past + 1;
#pragma omp for schedule(static)
    for (long n = 0; n < s.B * s.G; n++) {  // a key/value head of a row, and the queries that share it
        float *row = qkv + n / s.G * (s.H + 2 * s.G) * K, *q = row + n % s.G * share * K;
        float *k = row + (s.H + n % s.G) * K, *v = k + s.G * K;
        float *all_k = keys + n * s.slots * K, *all_v = values + n * s.slots * K;
        for (long h = 0; s.cos && h <= share; h++)  // rotary positions: pairs (i, i + K/2) of each query and the key
            for (long i = 0, j = K / 2; j < K; i++, j++) {
                float *x = h < share ? q + h * K : k, a = x[i], b = x[j];
                x[i] = a * s.cos[i] - b * s.sin[i], x[j] = b * s.cos[i] + a * s.sin[i];
            }
        for (long i = 0; i < K; i++) all_k[s.past * K + i] = k[i], all_v[s.past * K + i] = v[i];
        std::vector<float> scores(share * S);
        for (long o = 0; o < S; o += WIDTH)
            outputs<float>({{all_k, nullptr, nullptr, K, S, K, 4}, q, scores.data(), share, false}, o);
        for (long h = 0; h < share; h++) {
            float *p = &scores[h * S], *y = seen + (n * share + h) * K, total = 0, most = *std::max_element(p, p + S);
            for (long t = 0; t < S; t++) p[t] = exponential((p[t] - most) / std::sqrt(float(K)));
            for (long t = 0; t < S; t++) total += p[t];
            for (long t = 0; t < S; t++)
                for (long i = 0; i < K; i++) y[i] = (t ? y[i] : 0) + p[t] / total * all_v[t * K + i];
        }
    }
}
}  // namespace
extern "C" void product(const Matrix& m, const float* x, float* y, long rows, int threads) {
#pragma omp parallel num_threads(threads)
    multiply({m, x, y, rows, false});
}
extern "C" void step(const Step& s, float* x, int threads) {  // x (B, D) -> x (B, D)
    const long B = s.B, F = s.layers->up.n_out;
    std::vector<float> normed(B * s.D), qkv(B * (s.H + 2 * s.G) * s.K), seen(B * s.H * s.K), up(B * F), gate(B * F);
#pragma omp parallel num_threads(threads)
    for (const Layer* layer = s.layers; layer < s.layers + s.n_layers; layer++) {
        normalise(layer->attention_norm, x, normed.data(), B, s.D);
        multiply({layer->qkv, normed.data(), qkv.data(), B, false});
        attend(s, s.keys[layer - s.layers], s.values[layer - s.layers], qkv.data(), seen.data());
        multiply({layer->out, seen.data(), x, B, true});
        normalise(layer->mlp_norm, x, normed.data(), B, s.D);
        multiply({layer->up, normed.data(), up.data(), B, false});
        if (layer->gate.numbers) multiply({layer->gate, normed.data(), gate.data(), B, false});
#pragma omp for schedule(static)
        for (long i = 0; i < B * F; i++)  // SwiGLU, or GELU by tanh: each is a sigmoid times something
            up[i] = layer->gate.numbers ? up[i] * gate[i] / (1 + exponential(-gate[i])) :
                up[i] / (1 + exponential(-1.5957691216f * (up[i] + 0.044715f * up[i] * up[i] * up[i])));
        multiply({layer->down, up.data(), x, B, true});
    }
}
