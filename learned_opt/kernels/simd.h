// Vectors of float32, and what the kernels compute with them.
//
// Floats is as wide as the CPU's registers; a Block is two of them side by side, one number
// for each of BLOCK parameters, with the operators of a number. The code is GCC's and Clang's
// common dialect: vector types, no intrinsics. NaN is kept: what is NaN before a function is
// NaN after it, and in that lane alone.

#pragma once

#include <stdint.h>

#define INLINE inline __attribute__((always_inline))

// Floats in a vector register of this CPU, and how many such registers it has.
#if defined(__AVX512F__)
constexpr int LANES = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int LANES = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int LANES = 4, REGISTERS = 32;
#else
constexpr int LANES = 4, REGISTERS = 16;
#endif
constexpr int BLOCK = 2 * LANES;

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
// The same in memory, where XLA's arrays and rows begin at any float.
typedef float Stored __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

struct Block {
  Floats low, high;
};

// ----- arithmetic

INLINE Floats splat(float x) { return x - Floats{}; }
INLINE Block block(float x) { return {splat(x), splat(x)}; }

INLINE Block operator+(Block a, Block b) { return {a.low + b.low, a.high + b.high}; }
INLINE Block operator-(Block a, Block b) { return {a.low - b.low, a.high - b.high}; }
INLINE Block operator*(Block a, Block b) { return {a.low * b.low, a.high * b.high}; }
INLINE Block operator/(Block a, Block b) { return {a.low / b.low, a.high / b.high}; }
INLINE Block operator+(Block a, float b) { return {a.low + b, a.high + b}; }
INLINE Block operator-(Block a, float b) { return {a.low - b, a.high - b}; }
INLINE Block operator*(Block a, float b) { return {a.low * b, a.high * b}; }
INLINE Block operator-(float a, Block b) { return {a - b.low, a - b.high}; }
INLINE Block operator/(float a, Block b) { return {a / b.low, a / b.high}; }

INLINE float sum_of_lanes(Floats x) {
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) x[i] += x[i + width];
  return x[0];
}

// ----- memory

// How many parameters ahead memory is asked for: there are more rows than CPUs foresee.
constexpr int64_t AHEAD = 64;

INLINE Floats load_floats(const float* at) { return *(const Stored*)at; }
INLINE void store(Floats x, float* at) { *(Stored*)at = x; }
INLINE Block load(const float* at) { return {load_floats(at), load_floats(at + LANES)}; }
INLINE void store(Block x, float* at) {
  store(x.low, at);
  store(x.high, at + LANES);
}

// Copies `count` floats of each of `rows` rows, which lie `from_stride` and `to_stride` apart.
INLINE void copy_rows(int64_t rows, int64_t count, const float* from, int64_t from_stride,
                      float* to, int64_t to_stride) {
  for (int64_t row = 0; row < rows; row++)
    for (int64_t i = 0; i < count; i++) to[row * to_stride + i] = from[row * from_stride + i];
}

// ----- loops that the compiler unrolls, so that an array that they index stays in registers

template <int I>
struct Index {
  constexpr operator int() const { return I; }
};

template <int COUNT, int I = 0, typename Body>
INLINE void each(Body body) {
  if constexpr (I < COUNT) {
    body(Index<I>{});
    each<COUNT, I + 1>(body);
  }
}

// ----- elementary functions, with errors of a few units of the last place

INLINE Floats from_bits(Ints bits) { return (Floats)bits; }
INLINE Floats absolute(Floats x) { return (Floats)((Ints)x & 0x7fffffff); }

INLINE Floats square_root(Floats x) {
  for (int i = 0; i < LANES; i++) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

template <int COUNT>
INLINE Floats polynomial(const float (&ascending)[COUNT], Floats x) {
  Floats value = splat(ascending[COUNT - 1]);
  each<COUNT - 1>([&](auto i) { value = value * x + ascending[COUNT - 2 - i]; });
  return value;
}

// -1, 1, and zeros and NaN as they are.
INLINE Floats sign(Floats x) {
  return x > 0.0f ? splat(1.0f) : (x < 0.0f ? splat(-1.0f) : x);
}

// tanh(x) = x P(x^2) / Q(x^2) on [0, 8.3]; beyond, tanh is 1 in float32. Minimax fits with a
// relative error of 9e-9.
constexpr float TANH_LIMIT = 8.3f;
constexpr float TANH_P[] = {0.999999991f, 0.134258704f, 0.00354916911f, 2.15084951e-05f,
                            1.46482586e-08f};
constexpr float TANH_Q[] = {1.0f, 0.467591953f, 0.0260799495f, 0.000337395039f, 8.29510821e-07f};

// tanh of two numbers with one division, which takes as long as ten multiplications. NaN in
// either gives NaN in both, so they should be two numbers of the same parameters.
//
// Exactly 1 or -1 where they saturate: the derivative there must vanish, however large the
// input that it is multiplied by.
INLINE void tanh_pair(Floats& first, Floats& second) {
  auto limited = [](Floats x) {
    x = x > TANH_LIMIT ? splat(TANH_LIMIT) : x;
    return x < -TANH_LIMIT ? splat(-TANH_LIMIT) : x;
  };
  auto saturated = [](Floats x, Floats quotient) {
    return x > TANH_LIMIT ? splat(1.0f) : (x < -TANH_LIMIT ? splat(-1.0f) : quotient);
  };
  Floats x = limited(first), y = limited(second);
  Floats top_x = x * polynomial(TANH_P, x * x), bottom_x = polynomial(TANH_Q, x * x);
  Floats top_y = y * polynomial(TANH_P, y * y), bottom_y = polynomial(TANH_Q, y * y);
  // Both denominators are in [1, 300].
  Floats inverse = 1.0f / (bottom_x * bottom_y);
  first = saturated(first, top_x * (bottom_y * inverse));
  second = saturated(second, top_y * (bottom_x * inverse));
}

// log(1 + f) = f - f^2 / 2 + f^3 L(f) for 1 + f in [sqrt(1/2), sqrt(2)]; error 6e-9.
constexpr float LOG_L[] = {0.333333317f, -0.250008211f, 0.200012271f, -0.166233552f,
                           0.142017507f, -0.131601974f, 0.127616408f, -0.0763453805f};
// ln 2 in two parts; the first has few bits, so that its product with an exponent is exact.
constexpr float LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;
constexpr float INFINITE = __builtin_inff();

// The natural logarithm of positive normal numbers; infinity and NaN as they are. Callers see
// to it that x is at least 1.2e-38: other arguments give meaningless numbers.
INLINE Floats log(Floats x) {
  // The exponent that leaves a mantissa in [sqrt(1/2), sqrt(2)).
  Ints exponent = ((Ints)x - 0x3F3504F3) >> 23;
  Floats number = __builtin_convertvector(exponent, Floats);
  Floats f = from_bits((Ints)x - (exponent << 23)) - 1.0f;
  Floats square = f * f;
  Floats tail = polynomial(LOG_L, f) * (square * f) + number * LN2_LOW;
  Floats result = number * LN2_HIGH + ((tail - 0.5f * square) + f);
  return x < INFINITE ? result : x;
}

// e to the x: 0 below -87.3 (where float32 ends), infinity above 88.7.
INLINE Floats exp(Floats x) {
  constexpr float INVERSE_FACTORIALS[] = {1.0f, 1.0f, 1.0f / 2, 1.0f / 6, 1.0f / 24,
                                          1.0f / 120, 1.0f / 720, 1.0f / 5040};
  constexpr float ROUNDER = 12582912.0f;  // 1.5 * 2^23: sums with it have no fraction
  // NaN is kept out of the conversion to an integer, and put back at the end.
  Floats safe = x > 88.7f ? splat(88.7f) : (x > -87.3f ? x : splat(-87.3f));
  Floats number = (safe * 1.44269504f + ROUNDER) - ROUNDER;
  Floats rest = (safe - number * LN2_HIGH) - number * LN2_LOW;
  Ints exponent = __builtin_convertvector(number, Ints), half = exponent >> 1;
  // 2^n in two factors, as n may be 128, one more than an exponent holds.
  Floats power = polynomial(INVERSE_FACTORIALS, rest) * from_bits((half + 127) << 23) *
                 from_bits((exponent - half + 127) << 23);
  power = x > 88.7f ? splat(INFINITE) : power;
  power = x < -87.3f ? Floats{} : power;
  return x <= INFINITE ? power : x;
}

INLINE Block absolute(Block x) { return {absolute(x.low), absolute(x.high)}; }
INLINE Block square_root(Block x) { return {square_root(x.low), square_root(x.high)}; }
INLINE Block sign(Block x) { return {sign(x.low), sign(x.high)}; }
INLINE Block log(Block x) { return {log(x.low), log(x.high)}; }
INLINE Block exp(Block x) { return {exp(x.low), exp(x.high)}; }
INLINE void tanh_pair(Block& first, Block& second) {
  tanh_pair(first.low, second.low);
  tanh_pair(first.high, second.high);
}

// tanh of all numbers of an array (of the same parameters), in place.
template <int COUNT>
INLINE void tanh_all(Block (&x)[COUNT]) {
  for (int i = 0; i + 1 < COUNT; i += 2) tanh_pair(x[i], x[i + 1]);
  if (COUNT % 2) {
    Block again = x[COUNT - 1];
    tanh_pair(x[COUNT - 1], again);
  }
}

// ----- a matrix product

// Where the sums of a dense layer's product start.
INLINE auto from_bias(const float* bias) {
  return [bias](int j) { return block(bias[j]); };
}

// out[j] = start(j) + sum over k < ROWS of x[k] w[k][j], a tile of columns at a time in registers.
template <int ROWS, int COLUMNS, typename Start>
INLINE void product(const float (*w)[COLUMNS], Start start, const Block* x, Block* out) {
  auto tile = [&](auto count, int j) {
    Block sums[count];
    each<count>([&](auto i) { sums[i] = start(j + i); });
    for (int k = 0; k < ROWS; k++)
      each<count>([&](auto i) { sums[i] = sums[i] + x[k] * w[k][j + i]; });
    each<count>([&](auto i) { out[j + i] = sums[i]; });
  };
  // As equal as can be: first those with one column more, then the others.
  constexpr int MOST = REGISTERS >= 32 ? 12 : 6;
  constexpr int TILES = (COLUMNS + MOST - 1) / MOST, SIZE = COLUMNS / TILES;
  constexpr int LARGER = (COLUMNS % TILES) * (SIZE + 1);
  for (int j = 0; j < LARGER; j += SIZE + 1) tile(Index<SIZE + 1>{}, j);
  for (int j = LARGER; j < COLUMNS; j += SIZE) tile(Index<SIZE>{}, j);
}
