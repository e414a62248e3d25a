// OPEN's update: what it computes is defined by learned_opt/open_optimizer.py; here is how.
//
// Tensor by tensor, in blocks of BLOCK parameters: first the momenta and the second moments of
// all signals over the tensor, then the network. A block's values stay in registers and on the
// stack, in the first-level cache. The logarithms are computed in both passes, which is
// cheaper than writing them to memory.
//
// The file is compiled for one OpenSpec (open_update.py), whose fields come before it as
// constants in capitals (a MULTIPLIER each of DIRECTION, MAGNITUDE and NOISE), beside
// ERFINV_CENTRE and ERFINV_TAIL (random_normal's, ascending powers) and SLACK, the floats of the
// workspace beyond the draws.

#include "simd.h"
#include "xla.h"

namespace {

enum { NONE, GIVEN, THREEFRY };  // NOISE

constexpr int MOMENTA = sizeof(DECAYS) / sizeof(DECAYS[0]);
constexpr int SIGNALS = MOMENTA * USE_MOMENTUM + USE_GRADIENT;
constexpr int NORMALISED = USE_PARAMETER + 2 * SIGNALS;
constexpr int ROWS = NORMALISED + USE_DORMANCY;
constexpr int COMMON = USE_LAYER + SHARED;
// Parameters whose squares are summed before they join a tensor's sums: sums of sums round less.
constexpr int64_t CHUNK = 1024;
static_assert(CHUNK % BLOCK == 0 && SLACK >= 2 * LANES, "fits every width");

// As open_update.pack_open lays them out.
struct Weights {
  float gates[ROWS + HIDDEN][2 * HIDDEN];
  float candidate[ROWS][HIDDEN];
  float recurrent[HIDDEN][HIDDEN];
  float bias[1 + COMMON][3 * HIDDEN];
  float recurrent_bias[HIDDEN];
  float dense0[HIDDEN][WIDTH], dense0_bias[WIDTH], norm0_scale[WIDTH], norm0_bias[WIDTH];
  float dense1[WIDTH][WIDTH], dense1_bias[WIDTH], norm1_scale[WIDTH], norm1_bias[WIDTH];
  float output[WIDTH][OUTPUTS], output_bias[OUTPUTS];
};

// Where some parameters' numbers lie; rows of the same array are `stride` apart.
struct Rows {
  const float *gradient, *parameter, *dormancy, *noise, *momenta, *hidden;
  float *step, *new_momenta, *new_hidden;
  int64_t stride;

  Rows from(int64_t i) const {
    return {gradient + i, parameter + i, dormancy + i, noise ? noise + i : noise, momenta + i,
            hidden + i, step + i, new_momenta + i, new_hidden + i, stride};
  }
};

// Room for a tensor's last, partial block: what is not filled stays 0.
struct Stage {
  float gradient[BLOCK] = {}, parameter[BLOCK] = {}, dormancy[BLOCK] = {}, noise[BLOCK] = {};
  float momenta[MOMENTA][BLOCK] = {}, hidden[HIDDEN][BLOCK] = {};
  float step[BLOCK], new_momenta[MOMENTA][BLOCK] = {}, new_hidden[HIDDEN][BLOCK];

  Rows rows() {
    return {gradient, parameter, dormancy, noise, momenta[0], hidden[0], step, new_momenta[0],
            new_hidden[0], BLOCK};
  }
};

// What the network reads that is the same over a tensor.
struct Tensor {
  float scales[NORMALISED + 1], bias[3 * HIDDEN];
};

// The signals' signs, then their logarithms, whose arguments are at least LOG_EPSILON.
INLINE void add_signals(Block gradient, const Block* momenta, Block* rows) {
  auto add = [&](int i, Block signal) {
    rows[i] = sign(signal);
    rows[SIGNALS + i] = log(absolute(signal) + LOG_EPSILON);
  };
  if (USE_MOMENTUM)
    for (int i = 0; i < MOMENTA; i++) add(i, momenta[i]);
  if (USE_GRADIENT) add(SIGNALS - 1, gradient);
}

// One block's new momenta; adds the squares of what is normalised to `sums`.
void moments(const Rows& at, int64_t valid, Floats* sums) {
  Block gradient = load(at.gradient), momenta[MOMENTA], rows[NORMALISED + 1];
  for (int i = 0; i < MOMENTA; i++) {
    momenta[i] = gradient * (1.0f - DECAYS[i]) + load(at.momenta + i * at.stride) * DECAYS[i];
    store(momenta[i], at.new_momenta + i * at.stride);
  }
  if (USE_PARAMETER) rows[0] = load(at.parameter);
  add_signals(gradient, momenta, rows + USE_PARAMETER);
  for (int i = 0; i < NORMALISED; i++) {
    Block square = rows[i] * rows[i];
    if (valid < BLOCK) {
      float lanes[BLOCK];
      store(square, lanes);
      for (int64_t lane = valid; lane < BLOCK; lane++) lanes[lane] = 0.0f;
      square = load(lanes);
    }
    sums[i] += square.low + square.high;
  }
}

// Dense layer (with centred weights), layer norm, ReLU.
template <int INPUTS>
INLINE void layer(const float (*w)[WIDTH], const float* bias, const float* norm_scale,
                  const float* norm_bias, const Block* x, Block* out) {
  product<INPUTS>(w, from_bias(bias), x, out);
  Block sums[2] = {block(0.0f), block(0.0f)};
  for (int i = 0; i < WIDTH; i++) sums[i % 2] = sums[i % 2] + out[i] * out[i];
  Block variance = (sums[0] + sums[1]) * (1.0f / WIDTH);
  // Of at least the epsilon: neither the root nor the division is of 0.
  Block factor = 1.0f / square_root(variance + NORM_EPSILON);
  auto relu = [](Floats x) { return x < 0.0f ? Floats{} : x; };
  for (int i = 0; i < WIDTH; i++) {
    Block value = out[i] * factor * norm_scale[i] + block(norm_bias[i]);
    out[i] = {relu(value.low), relu(value.high)};
  }
}

// The GRU's new hidden values, from the inputs and, after them, the old hidden values.
INLINE void gru(const Weights& w, const Tensor& tensor, const Block* rows, Block* hidden) {
  Block gates[2 * HIDDEN], candidates[HIDDEN], recurrent[HIDDEN];
  const Block* old = rows + ROWS;
  product<ROWS + HIDDEN>(w.gates, from_bias(tensor.bias), rows, gates);
  product<ROWS>(w.candidate, from_bias(tensor.bias + 2 * HIDDEN), rows, candidates);
  product<HIDDEN>(w.recurrent, from_bias(w.recurrent_bias), old, recurrent);
  // sigmoid(x) = (1 + tanh(x / 2)) / 2; the gates' weights are halved.
  tanh_all(gates);
  for (int i = 0; i < HIDDEN; i++) {
    Block reset = gates[i] * 0.5f + 0.5f;
    candidates[i] = candidates[i] + reset * recurrent[i];
  }
  tanh_all(candidates);
  for (int i = 0; i < HIDDEN; i++) {
    Block update = gates[HIDDEN + i] * 0.5f + 0.5f;
    hidden[i] = candidates[i] + update * (old[i] - candidates[i]);
  }
}

// Inputs, network and step of one block; reads the momenta that the first pass wrote.
__attribute__((noinline)) void network(const Weights& w, const Tensor& tensor, const Rows& at) {
  Block rows[ROWS + HIDDEN], momenta[MOMENTA], hidden[HIDDEN];
  for (int i = 0; i < MOMENTA; i++) momenta[i] = load(at.new_momenta + i * at.stride);
  if (USE_PARAMETER) rows[0] = load(at.parameter);
  add_signals(load(at.gradient), momenta, rows + USE_PARAMETER);
  for (int i = 0; i < NORMALISED; i++) rows[i] = rows[i] * tensor.scales[i];
  if (USE_DORMANCY) rows[NORMALISED] = load(at.dormancy);
  for (int i = 0; i < HIDDEN; i++) {
    __builtin_prefetch(at.hidden + i * at.stride + AHEAD);
    __builtin_prefetch(at.new_hidden + i * at.stride + AHEAD, 1);
    rows[ROWS + i] = load(at.hidden + i * at.stride);
  }

  gru(w, tensor, rows, hidden);
  for (int i = 0; i < HIDDEN; i++) store(hidden[i], at.new_hidden + i * at.stride);
  Block first[WIDTH], second[WIDTH], outputs[OUTPUTS];
  layer<HIDDEN>(w.dense0, w.dense0_bias, w.norm0_scale, w.norm0_bias, hidden, first);
  layer<WIDTH>(w.dense1, w.dense1_bias, w.norm1_scale, w.norm1_bias, first, second);
  product<WIDTH>(w.output, from_bias(w.output_bias), second, outputs);

  Block step = outputs[0] * DIRECTION_MULTIPLIER * exp(outputs[1] * MAGNITUDE_MULTIPLIER);
  if (NOISE != NONE && at.noise)
    step = step + outputs[OUTPUTS - 1] * NOISE_MULTIPLIER * load(at.noise);
  store(step, at.step);
}

// Two words of the cipher Threefry-2x32 with 20 rounds, as JAX's default generator.
INLINE void threefry(const uint32_t* key, Words& x, Words& y) {
  const uint32_t schedule[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA};
  constexpr int ROTATIONS[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  x += schedule[0];
  y += schedule[1];
  each<5>([&](auto group) {
    each<4>([&](auto i) {
      constexpr int rotation = ROTATIONS[group % 2][i];
      x += y;
      y = x ^ (y << rotation | y >> (32 - rotation));
    });
    x += schedule[(group + 1) % 3];
    y += schedule[(group + 2) % 3] + (group + 1);
  });
}

// random_normal.standard_normal's draws from random words.
INLINE Floats normal(Words bits) {
  Floats x = (from_bits((Ints)(bits >> 9 | 0x3F800000)) - 1.5f) * 2.0f + 0x1p-23f;
  // x is in the open interval (-1, 1), so the log's argument is at least 2^-23.
  Floats w = -log((1.0f - x) * (x + 1.0f));
  Floats root = square_root(w > 1.0f ? w : splat(1.0f)) - 3.0f;
  Floats erfinv = w < 5.0f ? polynomial(ERFINV_CENTRE, w - 2.5f) : polynomial(ERFINV_TAIL, root);
  return x * 1.41421356f * erfinv;
}

// The draws of random_normal.standard_normal; writes up to 2 * LANES floats more than `count`.
void draws(const uint32_t* key, float* out, int64_t count) {
  const int64_t half = (count + 1) / 2;
  Words lanes;
  for (int i = 0; i < LANES; i++) lanes[i] = i;
  // From the last vector to the first: what the last writes past the first half is overwritten
  // by the second half's own.
  for (int64_t start = (half - 1) / LANES * LANES; start >= 0; start -= LANES) {
    Words first = lanes + (uint32_t)start, second = first + (uint32_t)half;
    // An odd count is padded by a counter of 0.
    second = second == (uint32_t)count ? Words{} : second;
    threefry(key, first, second);
    store(normal(first), out + start);
    store(normal(second), out + half + start);
  }
}

// One member's operands and results; see open_update.Operands.
struct Member {
  const Weights* weights;
  Rows rows;  // of all D parameters
  const float* shared;
  const int32_t* offsets;  // of the tensors, one more than there are
  const float* proportions;
  const int32_t* noise_starts;  // within the draws; below 0 for tensors without noise
  int64_t parameters, tensors;
};

// New momenta of a tensor, and the factors that bring its signals to a mean square of 1.
void first_pass(const Rows& rows, int64_t count, Stage& stage, Tensor& tensor) {
  const int64_t whole = count / BLOCK * BLOCK;
  Floats totals[NORMALISED + 1] = {};
  for (int64_t begin = 0; begin < whole; begin += CHUNK) {
    Floats sums[NORMALISED + 1] = {};
    const int64_t end = begin + CHUNK < whole ? begin + CHUNK : whole;
    for (int64_t i = begin; i < end; i += BLOCK) moments(rows.from(i), BLOCK, sums);
    for (int i = 0; i < NORMALISED; i++) totals[i] += sums[i];
  }
  if (const int64_t tail = count - whole) {
    const Rows outside = rows.from(whole);
    copy_rows(1, tail, outside.gradient, 0, stage.gradient, 0);
    copy_rows(1, tail, outside.parameter, 0, stage.parameter, 0);
    copy_rows(MOMENTA, tail, outside.momenta, rows.stride, stage.momenta[0], BLOCK);
    moments(stage.rows(), tail, totals);
    copy_rows(MOMENTA, tail, stage.new_momenta[0], BLOCK, outside.new_momenta, rows.stride);
  }
  // An empty tensor has no mean; at least 1 keeps the division defined.
  const float divisor = count > 0 ? count : 1;
  for (int i = 0; i < NORMALISED; i++)
    tensor.scales[i] =
        1.0f / __builtin_sqrtf(sum_of_lanes(totals[i]) / divisor + MOMENT_EPSILON);
}

void second_pass(const Weights& w, const Rows& rows, int64_t count, Stage& stage,
                 const Tensor& tensor) {
  const int64_t whole = count / BLOCK * BLOCK;
  for (int64_t i = 0; i < whole; i += BLOCK) network(w, tensor, rows.from(i));
  if (const int64_t tail = count - whole) {  // staged by the first pass, but for these
    const Rows outside = rows.from(whole);
    Rows inside = stage.rows();
    if (USE_DORMANCY) copy_rows(1, tail, outside.dormancy, 0, stage.dormancy, 0);
    if (outside.noise) copy_rows(1, tail, outside.noise, 0, stage.noise, 0);
    else inside.noise = nullptr;
    copy_rows(HIDDEN, tail, outside.hidden, rows.stride, stage.hidden[0], BLOCK);
    network(w, tensor, inside);
    copy_rows(1, tail, stage.step, 0, outside.step, 0);
    copy_rows(HIDDEN, tail, stage.new_hidden[0], BLOCK, outside.new_hidden, rows.stride);
  }
}

// Turns the steps into updates, which are added: their negative, centred.
void negate(float* step, int64_t count) {
  float mean = 0.0f;
  if (ZERO_MEAN) {
    float total = 0.0f;
    for (int64_t begin = 0; begin < count; begin += CHUNK) {
      const int64_t end = begin + CHUNK < count ? begin + CHUNK : count;
      Floats sum = {};
      int64_t i = begin;
      for (; i + LANES <= end; i += LANES) sum += load_floats(step + i);
      for (; i < end; i++) sum[0] += step[i];
      total += sum_of_lanes(sum);
    }
    mean = total / (count > 0 ? count : 1);
  }
  for (int64_t i = 0; i < count; i++) step[i] = mean - step[i];
}

void update(const Member& member) {
  const Weights& w = *member.weights;
  Stage stage;
  for (int64_t t = 0; t < member.tensors; t++) {
    const int64_t start = member.offsets[t], count = member.offsets[t + 1] - start;
    Rows rows = member.rows.from(start);
    const int32_t noise_start = member.noise_starts[t];
    rows.noise = noise_start < 0 ? nullptr : member.rows.noise + noise_start;
    Tensor tensor;
    first_pass(rows, count, stage, tensor);
    // Biases of the GRU's inputs, moved by what all parameters of the tensor share.
    for (int i = 0; i < 3 * HIDDEN; i++) {
      float value = w.bias[0][i];
      if (USE_LAYER) value += member.proportions[t] * w.bias[1][i];
      for (int k = 0; k < SHARED; k++) value += member.shared[k] * w.bias[1 + USE_LAYER + k][i];
      tensor.bias[i] = value;
    }
    second_pass(w, rows, count, stage, tensor);
  }
  negate(member.rows.step, member.parameters);
}

}  // namespace

extern "C" XLA_FFI_Error* open_update(XLA_FFI_CallFrame* frame) {
  if (xla::asked_for_version(frame)) return nullptr;
  enum { WEIGHTS, GRADIENT, PARAMETER, MOMENTA_, HIDDEN_, DORMANCY, SHARED_, OFFSETS, PROPORTIONS,
         NOISE_STARTS, NOISE_ };
  enum { STEP, NEW_MOMENTA, NEW_HIDDEN, WORKSPACE };
  const xla::Call call(frame, GRADIENT);
  for (int64_t m = 0; m < call.members(); m++) {
    float* workspace = call.result<float>(WORKSPACE, m);
    const float* noise = call.operand<float>(NOISE_, m);
    if (NOISE == THREEFRY) {
      draws(call.operand<uint32_t>(NOISE_, m), workspace, call.result_size(WORKSPACE) - SLACK);
      noise = workspace;
    }
    const int64_t parameters = call.operand_size(GRADIENT);
    update({
        .weights = (const Weights*)call.operand<float>(WEIGHTS, m),
        .rows = {.gradient = call.operand<float>(GRADIENT, m),
                 .parameter = call.operand<float>(PARAMETER, m),
                 .dormancy = call.operand<float>(DORMANCY, m),
                 .noise = noise,
                 .momenta = call.operand<float>(MOMENTA_, m),
                 .hidden = call.operand<float>(HIDDEN_, m),
                 .step = call.result<float>(STEP, m),
                 .new_momenta = call.result<float>(NEW_MOMENTA, m),
                 .new_hidden = call.result<float>(NEW_HIDDEN, m),
                 .stride = parameters},
        .shared = call.operand<float>(SHARED_, m),
        .offsets = call.operand<int32_t>(OFFSETS, m),
        .proportions = call.operand<float>(PROPORTIONS, m),
        .noise_starts = call.operand<int32_t>(NOISE_STARTS, m),
        .parameters = parameters,
        .tensors = call.operand_size(PROPORTIONS),
    });
  }
  return nullptr;
}
