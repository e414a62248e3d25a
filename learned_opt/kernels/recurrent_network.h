// Theta, the networks' inputs and what becomes of their outputs, and one update of BLOCK
// parameters; see recurrent.cc.

#pragma once

#include "simd.h"

enum { OPTIM4RL, LINEAR, L2LGD2 };  // FAMILY

namespace {

// ----- theta

// One dense layer and one GRU of theta, as it is flattened; T is float, or what sums it up.
template <typename T>
struct Dense {
  T bias[OUTPUTS], kernel[HIDDEN][OUTPUTS];
};
template <typename T>
struct Gru {
  T hn_bias[HIDDEN], hn[HIDDEN][HIDDEN], hr[HIDDEN][HIDDEN], hz[HIDDEN][HIDDEN];
  T in_bias[HIDDEN], in[INPUTS][HIDDEN];
  T ir_bias[HIDDEN], ir[INPUTS][HIDDEN];
  T iz_bias[HIDDEN], iz[INPUTS][HIDDEN];
};
template <typename T>
struct Theta {
  Dense<T> dense[BRANCHES];
  Gru<T> gru[BRANCHES];
};
constexpr int THETA_SIZE = sizeof(Theta<float>) / sizeof(float);

// A branch's weights as the kernels read them.
struct Weights {
  // Of reset and update, halved: sigmoid(x) = (1 + tanh(x / 2)) / 2.
  float gates[HIDDEN][2 * HIDDEN], gates_inputs[INPUTS][2 * HIDDEN], gates_bias[2 * HIDDEN];
  float recurrent[HIDDEN][HIDDEN], recurrent_bias[HIDDEN];
  float candidate[INPUTS][HIDDEN], candidate_bias[HIDDEN];
  float dense[HIDDEN][OUTPUTS], dense_bias[OUTPUTS];
  // Transposed, for the way back: of what reset multiplies, reset and update.
  float back[3 * HIDDEN][HIDDEN];
};

struct Network {
  Weights branch[BRANCHES];

  explicit Network(const Theta<float>& theta) {
    for (int b = 0; b < BRANCHES; b++) fill(branch[b], theta.dense[b], theta.gru[b]);
  }

  static void fill(Weights& w, const Dense<float>& dense, const Gru<float>& gru) {
    for (int j = 0; j < HIDDEN; j++) {
      w.gates_bias[j] = 0.5f * gru.ir_bias[j];
      w.gates_bias[HIDDEN + j] = 0.5f * gru.iz_bias[j];
      w.candidate_bias[j] = gru.in_bias[j];
      w.recurrent_bias[j] = gru.hn_bias[j];
      for (int f = 0; f < INPUTS; f++) {
        w.gates_inputs[f][j] = 0.5f * gru.ir[f][j];
        w.gates_inputs[f][HIDDEN + j] = 0.5f * gru.iz[f][j];
        w.candidate[f][j] = gru.in[f][j];
      }
      for (int k = 0; k < HIDDEN; k++) {
        w.gates[k][j] = 0.5f * gru.hr[k][j];
        w.gates[k][HIDDEN + j] = 0.5f * gru.hz[k][j];
        w.recurrent[k][j] = gru.hn[k][j];
        w.back[j][k] = gru.hn[k][j];
        w.back[HIDDEN + j][k] = gru.hr[k][j];
        w.back[2 * HIDDEN + j][k] = gru.hz[k][j];
      }
      for (int o = 0; o < OUTPUTS; o++) w.dense[j][o] = dense.kernel[j][o];
    }
    for (int o = 0; o < OUTPUTS; o++) w.dense_bias[o] = dense.bias[o];
  }
};

// ----- what the families do before and after their networks, and the derivatives as JAX's

// log(|g| + epsilon) / p; the argument is at least epsilon, far above the denormals.
INLINE Block scaled_logarithm(Block gradient) {
  return log(absolute(gradient) + LOG_EPSILON) * (1.0f / LOG_RANGE);
}

// x where the logarithm shows the gradient, y (also for NaN) where it is shown linearly.
INLINE Block where_large(Block logarithm, Block x, Block y) {
  return {logarithm.low >= -1.0f ? x.low : y.low, logarithm.high >= -1.0f ? x.high : y.high};
}

INLINE void network_inputs(Block gradient, Block (*x)[INPUTS]) {
  x[0][0] = gradient;
  if constexpr (FAMILY == OPTIM4RL) x[1][0] = gradient * gradient;
  if constexpr (FAMILY == L2LGD2) {
    // Comparisons are false for NaN. A NaN gradient's logarithm is not "large", and the second
    // input, exp(p) times it, is NaN like the definition's.
    Block logarithm = scaled_logarithm(gradient);
    x[0][0] = where_large(logarithm, logarithm, block(-1.0f));
    x[0][1] = where_large(logarithm, sign(gradient), gradient * EXP_LOG_RANGE);
  }
}

// The inputs' cotangents to the gradient's.
INLINE Block network_inputs_vjp(Block gradient, const Block (*by_x)[INPUTS]) {
  if constexpr (FAMILY == OPTIM4RL) return by_x[0][0] + by_x[1][0] * (gradient * 2.0f);
  if constexpr (FAMILY == LINEAR) return by_x[0][0];
  if constexpr (FAMILY == L2LGD2) {
    Block logarithm = scaled_logarithm(gradient);
    // At least epsilon times the range: the division is safe.
    Block scale = (absolute(gradient) + LOG_EPSILON) * LOG_RANGE;
    return where_large(logarithm, by_x[0][0] * sign(gradient) / scale, by_x[0][1] * EXP_LOG_RANGE);
  }
}

// The step before the learning rate, from the outputs of all branches.
INLINE Block direction(Block gradient, const Block* outputs) {
  Block first = exp(outputs[0]);
  if constexpr (FAMILY == OPTIM4RL)  // the root's argument is at least the epsilon
    return sign(gradient) * first / square_root(exp(outputs[1]) + ROOT_EPSILON);
  if constexpr (FAMILY == LINEAR) return exp(outputs[1]) * outputs[2] + first * gradient;
  if constexpr (FAMILY == L2LGD2) return first * gradient;
}

// The step's cotangent to those of the outputs; returns the gradient's that goes around the
// networks.
INLINE Block direction_vjp(Block gradient, const Block* outputs, Block by_step, Block* by_outputs) {
  Block first = exp(outputs[0]);
  if constexpr (FAMILY == OPTIM4RL) {
    Block second = exp(outputs[1]), argument = second + ROOT_EPSILON;
    by_outputs[0] = by_step * (sign(gradient) * first / square_root(argument));
    by_outputs[1] = by_outputs[0] * (second / argument) * -0.5f;
    return block(0.0f);
  }
  Block by_gradient = by_step * first;
  by_outputs[0] = by_gradient * gradient;
  if constexpr (FAMILY == LINEAR) {
    by_outputs[2] = by_step * exp(outputs[1]);
    by_outputs[1] = by_outputs[2] * outputs[2];
  }
  return by_gradient;
}

// ----- one update of BLOCK parameters

struct Gates {
  // Reset, then update; the candidate; what reset multiplies; the new hidden values.
  Block gates[2 * HIDDEN], candidate[HIDDEN], recurrent[HIDDEN], hidden[HIDDEN];
};

INLINE void run_gru(const Weights& w, const Block* x, const Block* old, Gates& g) {
  auto with_inputs = [&](float bias, const auto* weights, int j) {
    Block sum = block(bias);
    for (int f = 0; f < INPUTS; f++) sum = sum + x[f] * weights[f][j];
    return sum;
  };
  product<HIDDEN>(
      w.gates, [&](int j) { return with_inputs(w.gates_bias[j], w.gates_inputs, j); }, old,
      g.gates);
  product<HIDDEN>(w.recurrent, from_bias(w.recurrent_bias), old, g.recurrent);
  tanh_all(g.gates);
  for (int j = 0; j < HIDDEN; j++) {
    g.gates[j] = g.gates[j] * 0.5f + 0.5f;
    g.gates[HIDDEN + j] = g.gates[HIDDEN + j] * 0.5f + 0.5f;
    g.candidate[j] =
        with_inputs(w.candidate_bias[j], w.candidate, j) + g.gates[j] * g.recurrent[j];
  }
  tanh_all(g.candidate);
  for (int j = 0; j < HIDDEN; j++)
    g.hidden[j] = g.candidate[j] + g.gates[HIDDEN + j] * (old[j] - g.candidate[j]);
}

INLINE void run_dense(const Weights& w, const Block* hidden, Block* outputs) {
  product<HIDDEN>(w.dense, from_bias(w.dense_bias), hidden, outputs);
}

// Where rows of all branches lie that belong to hidden values; a branch's are `stride` apart.
struct Hidden {
  float* branch[BRANCHES];
  int64_t stride;

  float* row(int b, int64_t k) const { return branch[b] + k * stride; }
  Hidden from(int64_t i) const {
    Hidden later = *this;
    for (int b = 0; b < BRANCHES; b++) later.branch[b] += i;
    return later;
  }
  void copy_to(const Hidden& other, int64_t count) const {
    for (int b = 0; b < BRANCHES; b++)
      copy_rows(HIDDEN, count, branch[b], stride, other.branch[b], other.stride);
  }
};

// Room for WIDTH parameters' rows; zeros at first.
template <int WIDTH>
struct HiddenRoom {
  float rows[BRANCHES][HIDDEN][WIDTH] = {};

  Hidden view() {
    Hidden hidden = {{}, WIDTH};
    for (int b = 0; b < BRANCHES; b++) hidden.branch[b] = rows[b][0];
    return hidden;
  }
};

// Step and new hidden values; the latter may be written where the old ones are.
__attribute__((noinline)) void update(const Network& network, const float* gradient_at,
                                      const Hidden& hidden, float* step,
                                      const Hidden& new_hidden) {
  Block gradient = load(gradient_at), x[BRANCHES][INPUTS], outputs[BRANCHES * OUTPUTS];
  network_inputs(gradient, x);
  for (int b = 0; b < BRANCHES; b++) {
    Block old[HIDDEN];
    Gates g;
    for (int k = 0; k < HIDDEN; k++) {
      __builtin_prefetch(hidden.row(b, k) + AHEAD);
      __builtin_prefetch(new_hidden.row(b, k) + AHEAD, 1);
      old[k] = load(hidden.row(b, k));
    }
    run_gru(network.branch[b], x[b], old, g);
    for (int k = 0; k < HIDDEN; k++) store(g.hidden[k], new_hidden.row(b, k));
    run_dense(network.branch[b], g.hidden, outputs + b * OUTPUTS);
  }
  store(direction(gradient, outputs), step);
}

}  // namespace
