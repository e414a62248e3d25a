// The forward pass of SPAN parameters as their derivative wants it, the derivative, and what it
// gives to theta; see recurrent.cc.

#pragma once

#include "recurrent_network.h"

namespace {

static_assert(SPAN % BLOCK == 0, "fits every width");

// ----- the tape

typedef float Row[SPAN];

// A branch's forward pass in one update. The first four become cotangents: of what reset
// multiplies, and of the arguments of the three gates.
struct BranchTape {
  Row recurrent[HIDDEN], reset[HIDDEN], update[HIDDEN], candidate[HIDDEN];
  Row hidden[HIDDEN], inputs[INPUTS], by_outputs[OUTPUTS];
};
struct Tape {
  BranchTape branch[BRANCHES];
};
static_assert(sizeof(Tape) == TAPE_FLOATS * sizeof(float), "recurrent_update.py gives it room");

// Hidden values to where the next tape reads them.
void open_tape(Tape& before, const Hidden& hidden) {
  for (int b = 0; b < BRANCHES; b++)
    for (int k = 0; k < HIDDEN; k++)
      for (int64_t lane = 0; lane < SPAN; lane += BLOCK) {
        __builtin_prefetch(hidden.row(b, k) + lane + AHEAD);
        store(load(hidden.row(b, k) + lane), before.branch[b].hidden[k] + lane);
      }
}

// The forward pass of SPAN parameters.
__attribute__((noinline)) void forward(const Network& network, const float* gradient, Tape* tape) {
  for (int64_t lane = 0; lane < SPAN; lane += BLOCK) {
    Block x[BRANCHES][INPUTS], old[HIDDEN];
    network_inputs(load(gradient + lane), x);
    for (int b = 0; b < BRANCHES; b++) {
      BranchTape& here = tape->branch[b];
      Gates g;
      for (int k = 0; k < HIDDEN; k++) old[k] = load(tape[-1].branch[b].hidden[k] + lane);
      run_gru(network.branch[b], x[b], old, g);
      for (int f = 0; f < INPUTS; f++) store(x[b][f], here.inputs[f] + lane);
      for (int k = 0; k < HIDDEN; k++) {
        store(g.recurrent[k], here.recurrent[k] + lane);
        store(g.gates[k], here.reset[k] + lane);
        store(g.gates[HIDDEN + k], here.update[k] + lane);
        store(g.candidate[k], here.candidate[k] + lane);
        store(g.hidden[k], here.hidden[k] + lane);
      }
    }
  }
}

// ----- the derivative of SPAN parameters' update

// Where cotangents lie. The step's is `by_step` plus `penalty` times the step itself; those of
// the hidden values may be the same place.
struct Cotangents {
  const float *by_step, *penalty;
  Hidden by_new_hidden, by_hidden;
};

// A branch's gates become cotangents, to the tape and to `by`: [0] of what reset multiplies, then
// of the arguments of reset, update and candidate. Leaves the part of each hidden value's that
// goes straight to the old one in `by_kept`.
INLINE void back_through_gates(const Weights& w, const BranchTape* before, BranchTape& tape,
                               int64_t lane, const Block* by_outputs, const Hidden& by_new, int b,
                               Block (*by)[HIDDEN], Block* by_kept) {
  for (int j = 0; j < HIDDEN; j++) {
    Block by_hidden = load(by_new.row(b, j) + lane);
    for (int o = 0; o < OUTPUTS; o++) by_hidden = by_hidden + by_outputs[o] * w.dense[j][o];
    Block reset = load(tape.reset[j] + lane), update = load(tape.update[j] + lane);
    Block candidate = load(tape.candidate[j] + lane), old = load(before->hidden[j] + lane);
    by_kept[j] = by_hidden * update;
    by[3][j] = (by_hidden - by_kept[j]) * (1.0f - candidate * candidate);
    by[2][j] = by_kept[j] * (old - candidate) * (1.0f - update);
    by[0][j] = by[3][j] * reset;
    by[1][j] = by[0][j] * load(tape.recurrent[j] + lane) * (1.0f - reset);
    store(by[0][j], tape.recurrent[j] + lane);
    store(by[1][j], tape.reset[j] + lane);
    store(by[2][j], tape.update[j] + lane);
    store(by[3][j], tape.candidate[j] + lane);
  }
}

INLINE void back_to_inputs(const Gru<float>& gru, const Block (*by)[HIDDEN], Block* by_x) {
  for (int f = 0; f < INPUTS; f++) {
    Block parts[3] = {block(0.0f), block(0.0f), block(0.0f)};
    for (int j = 0; j < HIDDEN; j++) {
      parts[0] = parts[0] + by[1][j] * gru.ir[f][j];
      parts[1] = parts[1] + by[2][j] * gru.iz[f][j];
      parts[2] = parts[2] + by[3][j] * gru.in[f][j];
    }
    by_x[f] = parts[0] + parts[1] + parts[2];
  }
}

// Cotangents of what the update saw; the gradient's only if `by_gradient` is not null.
__attribute__((noinline)) void derivative(const Theta<float>& theta, const Network& network,
                                          const float* gradient_at, Tape* tape,
                                          const Cotangents& at, float* by_gradient) {
  for (int64_t lane = 0; lane < SPAN; lane += BLOCK) {
    Block gradient = load(gradient_at + lane), by_x[BRANCHES][INPUTS];
    Block outputs[BRANCHES * OUTPUTS], by_outputs[BRANCHES * OUTPUTS], rows[HIDDEN];
    for (int b = 0; b < BRANCHES; b++) {
      for (int j = 0; j < HIDDEN; j++) rows[j] = load(tape->branch[b].hidden[j] + lane);
      run_dense(network.branch[b], rows, outputs + b * OUTPUTS);
    }
    Block by_step = load(at.by_step + lane) +
                    load(at.penalty + lane) * direction(gradient, outputs);
    Block direct = direction_vjp(gradient, outputs, by_step, by_outputs);
    for (int b = 0; b < BRANCHES; b++) {
      const Weights& w = network.branch[b];
      BranchTape& here = tape->branch[b];
      Block by[4][HIDDEN];
      for (int o = 0; o < OUTPUTS; o++)
        store(by_outputs[b * OUTPUTS + o], here.by_outputs[o] + lane);
      back_through_gates(w, &tape[-1].branch[b], here, lane, by_outputs + b * OUTPUTS,
                         at.by_new_hidden, b, by, rows);
      product<3 * HIDDEN>(w.back, [&](int k) { return rows[k]; }, by[0], rows);
      for (int k = 0; k < HIDDEN; k++) store(rows[k], at.by_hidden.row(b, k) + lane);
      if (by_gradient) back_to_inputs(theta.gru[b], by, by_x[b]);
    }
    if (by_gradient) store(network_inputs_vjp(gradient, by_x) + direct, by_gradient + lane);
  }
}

// ----- theta's gradients

// Lane by lane in float32, and all lanes together in float64.
struct Sums {
  Theta<Floats> lanes;
  double totals[THETA_SIZE] = {};

  Sums() { clear(); }

  void clear() {
    for (int i = 0; i < THETA_SIZE; i++) ((Floats*)&lanes)[i] = Floats{};
  }
  void gather() {
    for (int i = 0; i < THETA_SIZE; i++) totals[i] += sum_of_lanes(((Floats*)&lanes)[i]);
    clear();
  }
  void write(float* out) const {
    for (int i = 0; i < THETA_SIZE; i++) out[i] = (float)totals[i];
  }
};

// How many rows are gone through side by side, with all their sums in registers.
constexpr int tile_of(int count, int most) {
  while (count % most) most--;
  return most;
}

// Adds left rows times right rows, over SPAN parameters and the tapes of `count` updates. A tile
// of sums stays in registers through them.
template <int LEFT, int RIGHT>
INLINE void add_products(Floats (*sums)[RIGHT], const Row* left, const Row* right, int64_t count) {
  constexpr int TALL = tile_of(LEFT, 4), WIDE = tile_of(RIGHT, REGISTERS >= 32 ? 4 : 2);
  for (int k = 0; k < LEFT; k += TALL)
    for (int j = 0; j < RIGHT; j += WIDE) {
      Floats tile[TALL][WIDE];
      each<TALL>([&](auto p) { each<WIDE>([&](auto q) { tile[p][q] = sums[k + p][j + q]; }); });
      for (int64_t u = 0; u < count; u++) {
        const float* lefts = left[k] + u * TAPE_FLOATS;
        const float* rights = right[j] + u * TAPE_FLOATS;
        for (int lane = 0; lane < SPAN; lane += LANES) {
          Floats values[WIDE];
          each<WIDE>([&](auto q) { values[q] = load_floats(rights + q * SPAN + lane); });
          each<TALL>([&](auto p) {
            Floats factor = load_floats(lefts + p * SPAN + lane);
            each<WIDE>([&](auto q) { tile[p][q] += factor * values[q]; });
          });
        }
      }
      each<TALL>([&](auto p) { each<WIDE>([&](auto q) { sums[k + p][j + q] = tile[p][q]; }); });
    }
}

// Adds rows.
template <int RIGHT>
INLINE void add_rows(Floats* sums, const Row* right, int64_t count) {
  constexpr int WIDE = tile_of(RIGHT, 4);
  for (int j = 0; j < RIGHT; j += WIDE) {
    Floats tile[WIDE];
    each<WIDE>([&](auto q) { tile[q] = sums[j + q]; });
    for (int64_t u = 0; u < count; u++)
      for (int lane = 0; lane < SPAN; lane += LANES)
        each<WIDE>([&](auto q) {
          tile[q] += load_floats(right[j] + u * TAPE_FLOATS + q * SPAN + lane);
        });
    each<WIDE>([&](auto q) { sums[j + q] = tile[q]; });
  }
}

// What `count` updates, the first of which is `tape`'s, give to theta.
__attribute__((noinline)) void add_to_theta(Theta<Floats>& sums, const Tape* tape, int64_t count) {
  for (int b = 0; b < BRANCHES; b++) {
    const BranchTape& by = tape->branch[b];
    const Row* old = tape[-1].branch[b].hidden;
    Gru<Floats>& gru = sums.gru[b];
    Dense<Floats>& dense = sums.dense[b];
    add_products<HIDDEN>(gru.hr, old, by.reset, count);
    add_products<HIDDEN>(gru.hz, old, by.update, count);
    add_products<HIDDEN>(gru.hn, old, by.recurrent, count);
    add_rows<HIDDEN>(gru.hn_bias, by.recurrent, count);
    add_products<INPUTS>(gru.ir, by.inputs, by.reset, count);
    add_products<INPUTS>(gru.iz, by.inputs, by.update, count);
    add_products<INPUTS>(gru.in, by.inputs, by.candidate, count);
    add_rows<HIDDEN>(gru.ir_bias, by.reset, count);
    add_rows<HIDDEN>(gru.iz_bias, by.update, count);
    add_rows<HIDDEN>(gru.in_bias, by.candidate, count);
    add_products<HIDDEN>(dense.kernel, by.hidden, by.by_outputs, count);
    add_rows<OUTPUTS>(dense.bias, by.by_outputs, count);
  }
}

}  // namespace
