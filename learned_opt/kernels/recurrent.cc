// The update of Optim4RL, Linear and L2LGD2, its derivative, and the derivative of many updates.
// What is computed is defined by learned_opt/optim4rl.py; here is how.
//
// The update goes through BLOCK parameters at a time. The derivative recomputes the forward pass
// of SPAN parameters and leaves it on a *tape*, whose gates then become cotangents of what went
// into them; last, what the tapes of a few updates give to theta's gradients is added to sums
// that have one lane for every LANES-th parameter. Tapes of successive updates lie one after
// the other, as each reads the hidden values that the one before it ends with.
//
// A last, partial block goes by way of a stage: zeros but for what is copied there, which give
// nothing to theta's gradients, as all cotangents are zero.
//
// The file is compiled for one RecurrentSpec (recurrent_update.py), whose fields come before it
// as constants in capitals, beside EXP_LOG_RANGE, SPAN (parameters on a tape) and TAPE_FLOATS.

#include "recurrent_derivative.h"
#include "recurrent_network.h"
#include "xla.h"

namespace {

// Parameters whose contributions to theta's gradients are summed in float32, lane by lane,
// before they join sums in float64: of one update, and of all updates of a stretch.
constexpr int64_t UPDATE_CHUNK = 64 * SPAN, STRETCH_CHUNK = 16 * SPAN;
// Updates of a stretch whose tapes go to the sums together: the rows of one gate's sums, on all
// of them, fit in the first-level cache.
constexpr int64_t TOGETHER = 4;

// ----- all parameters of one member of a batch

void update_all(const Network& network, const float* gradient, const Hidden& hidden, float* step,
                const Hidden& new_hidden, int64_t size) {
  const int64_t whole = size / BLOCK * BLOCK, tail = size - whole;
  for (int64_t i = 0; i < whole; i += BLOCK)
    update(network, gradient + i, hidden.from(i), step + i, new_hidden.from(i));
  if (!tail) return;
  float staged_gradient[BLOCK] = {}, staged_step[BLOCK];
  HiddenRoom<BLOCK> room;
  copy_rows(1, tail, gradient + whole, 0, staged_gradient, 0);
  hidden.from(whole).copy_to(room.view(), tail);
  update(network, staged_gradient, room.view(), staged_step, room.view());
  copy_rows(1, tail, staged_step, 0, step + whole, 0);
  room.view().copy_to(new_hidden.from(whole), tail);
}

// One update's derivative; cotangents come as `at`, without penalty.
struct Derivative {
  const Theta<float>& theta;
  const Network network;
  Sums sums;
  Tape tapes[2];

  explicit Derivative(const float* theta_at)
      : theta(*(const Theta<float>*)theta_at), network(theta) {}

  void span(const float* gradient, const Hidden& hidden, const Cotangents& at,
            float* by_gradient) {
    open_tape(tapes[0], hidden);
    forward(network, gradient, tapes + 1);
    derivative(theta, network, gradient, tapes + 1, at, by_gradient);
    add_to_theta(sums.lanes, tapes + 1, 1);
  }

  void all(const float* gradient, const Hidden& hidden, const float* by_step,
           const Hidden& by_new_hidden, float* by_gradient, const Hidden& by_hidden,
           int64_t size) {
    const float no_penalty[SPAN] = {};
    const int64_t whole = size / SPAN * SPAN, tail = size - whole;
    for (int64_t i = 0; i < whole; i += SPAN) {
      span(gradient + i, hidden.from(i),
           {by_step + i, no_penalty, by_new_hidden.from(i), by_hidden.from(i)}, by_gradient + i);
      if ((i + SPAN) % UPDATE_CHUNK == 0) sums.gather();
    }
    if (tail) {
      float staged_gradient[SPAN] = {}, staged_by_step[SPAN] = {}, staged_by_gradient[SPAN];
      HiddenRoom<SPAN> room, by_room;
      copy_rows(1, tail, gradient + whole, 0, staged_gradient, 0);
      copy_rows(1, tail, by_step + whole, 0, staged_by_step, 0);
      hidden.from(whole).copy_to(room.view(), tail);
      by_new_hidden.from(whole).copy_to(by_room.view(), tail);
      span(staged_gradient, room.view(),
           {staged_by_step, no_penalty, by_room.view(), by_room.view()}, staged_by_gradient);
      copy_rows(1, tail, staged_by_gradient, 0, by_gradient + whole, 0);
      by_room.view().copy_to(by_hidden.from(whole), tail);
    }
    sums.gather();
  }
};

// Theta's gradients through S updates, SPAN parameters at a time: they go through all updates
// and back before the next ones begin, so what lies between stays in the second-level cache.
struct Stretch {
  const Theta<float>& theta;
  const Network network;
  const int64_t updates;
  Tape* const tapes;  // the one before the first update's, and those of the updates
  Sums sums;

  Stretch(const float* theta_at, int64_t updates, float* room)
      : theta(*(const Theta<float>*)theta_at), network(theta), updates(updates),
        tapes((Tape*)room) {}

  // `gradients` has a row for each update, `stride` apart.
  void span(const float* gradients, int64_t stride, const Hidden& hidden, const float* by_step,
            const float* penalty) {
    HiddenRoom<SPAN> by_hidden;
    const Cotangents at = {by_step, penalty, by_hidden.view(), by_hidden.view()};
    Tape* first = tapes + 1;
    open_tape(tapes[0], hidden);
    for (int64_t u = 0; u < updates; u++) forward(network, gradients + u * stride, first + u);
    for (int64_t stop = updates; stop > 0;) {
      const int64_t start = (stop - 1) / TOGETHER * TOGETHER;
      for (int64_t u = stop - 1; u >= start; u--)
        derivative(theta, network, gradients + u * stride, first + u, at, nullptr);
      add_to_theta(sums.lanes, first + start, stop - start);
      stop = start;
    }
  }

  void all(const float* gradients, const Hidden& hidden, const float* by_step, float penalty,
           int64_t size) {
    const int64_t whole = size / SPAN * SPAN, tail = size - whole;
    float penalties[SPAN];
    for (int i = 0; i < SPAN; i++) penalties[i] = penalty;
    for (int64_t i = 0; i < whole; i += SPAN) {
      span(gradients + i, size, hidden.from(i), by_step + i, penalties);
      if ((i + SPAN) % STRETCH_CHUNK == 0) sums.gather();
    }
    if (tail) {
      // Where there is no parameter, a step may not be 0, but must not be penalised.
      for (int64_t i = tail; i < SPAN; i++) penalties[i] = 0.0f;
      float staged_by_step[SPAN] = {};
      float* staged_gradients = (float*)(tapes + updates + 1);  // room behind the tapes
      HiddenRoom<SPAN> room;
      for (int64_t i = 0; i < updates * SPAN; i++) staged_gradients[i] = 0.0f;
      copy_rows(updates, tail, gradients + whole, size, staged_gradients, SPAN);
      copy_rows(1, tail, by_step + whole, 0, staged_by_step, 0);
      hidden.from(whole).copy_to(room.view(), tail);
      span(staged_gradients, SPAN, room.view(), staged_by_step, penalties);
    }
    sums.gather();
  }
};

// Hidden values' arrays among a call's, from a position on.
Hidden operands(const xla::Call& call, int first, int64_t member, int64_t size) {
  Hidden hidden = {{}, size};
  for (int b = 0; b < BRANCHES; b++) hidden.branch[b] = call.operand<float>(first + b, member);
  return hidden;
}
Hidden results(const xla::Call& call, int first, int64_t member, int64_t size) {
  Hidden hidden = {{}, size};
  for (int b = 0; b < BRANCHES; b++) hidden.branch[b] = call.result<float>(first + b, member);
  return hidden;
}

}  // namespace

// (gradient [D], theta, hidden values [H, D]) -> (step [D], new hidden values)
extern "C" XLA_FFI_Error* recurrent_update(XLA_FFI_CallFrame* frame) {
  if (xla::asked_for_version(frame)) return nullptr;
  const xla::Call call(frame, 0);
  const int64_t size = call.operand_size(0);
  for (int64_t m = 0; m < call.members(); m++) {
    const Network network(*(const Theta<float>*)call.operand<float>(1, m));
    update_all(network, call.operand<float>(0, m), operands(call, 2, m, size),
               call.result<float>(0, m), results(call, 1, m, size), size);
  }
  return nullptr;
}

// (gradient, theta, hidden values, cotangents of step and new hidden values) -> cotangents of
// (gradient, theta, hidden values)
extern "C" XLA_FFI_Error* recurrent_derivative(XLA_FFI_CallFrame* frame) {
  if (xla::asked_for_version(frame)) return nullptr;
  const xla::Call call(frame, 0);
  const int64_t size = call.operand_size(0);
  constexpr int BY_STEP = 2 + BRANCHES;
  for (int64_t m = 0; m < call.members(); m++) {
    Derivative derivative(call.operand<float>(1, m));
    derivative.all(call.operand<float>(0, m), operands(call, 2, m, size),
                   call.operand<float>(BY_STEP, m), operands(call, BY_STEP + 1, m, size),
                   call.result<float>(0, m), results(call, 2, m, size), size);
    derivative.sums.write(call.result<float>(1, m));
  }
  return nullptr;
}

// (cotangent of the sum of steps [D], penalty [1], gradients [S, D], theta, hidden values before)
// -> (theta's cotangent, room), see recurrent_update.room_for
extern "C" XLA_FFI_Error* recurrent_stretch(XLA_FFI_CallFrame* frame) {
  if (xla::asked_for_version(frame)) return nullptr;
  const xla::Call call(frame, 0);
  const int64_t size = call.operand_size(0);
  // All members use the same room, which so stays in the cache.
  float* room = call.result<float>(1, 0);
  for (int64_t m = 0; m < call.members(); m++) {
    Stretch stretch(call.operand<float>(3, m), call.operand_size(2, 2), room);
    stretch.all(call.operand<float>(2, m), operands(call, 4, m, size), call.operand<float>(0, m),
                *call.operand<float>(1, m), size);
    stretch.sums.write(call.result<float>(0, m));
  }
  return nullptr;
}
