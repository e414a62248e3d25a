"""What Optim4RL, Linear and L2LGD2 do before and after their networks, as machine code.

``optim4rl`` defines the formulas; here they are again on the vectors of
``learned_opt.simd``, with their derivatives as JAX would take them.
"""

import math
from collections.abc import Sequence

from learned_opt import simd_math
from learned_opt.recurrent_update import Spec
from learned_opt.simd import Code, Vector


def network_inputs(spec: Spec, code: Code, gradient: Vector) -> list[list[Vector]]:
    """The F rows of each branch."""
    if spec.family == "optim4rl":
        return [[gradient], [gradient * gradient]]
    if spec.family == "linear":
        return [[gradient]]
    logarithm = _scaled_logarithm(spec, code, gradient)
    # Comparisons are false for NaN; these rows are NaN for a NaN gradient like the definition's:
    # its logarithm is not "large", and the second row, exp(p) times it, is NaN.
    large_sign = simd_math.sign(code, gradient)
    small = gradient * math.exp(spec.log_range)
    return [
        [
            logarithm.where(">=", -1.0, logarithm, -1.0),
            logarithm.where(">=", -1.0, large_sign, small),
        ]
    ]


def _scaled_logarithm(spec: Spec, code: Code, gradient: Vector) -> Vector:
    """log(|g| + epsilon) / p; the argument is at least epsilon, far above the denormals."""
    shifted = code.absolute(gradient) + spec.log_epsilon
    return simd_math.log(code, shifted) * (1.0 / spec.log_range)


def network_inputs_vjp(
    spec: Spec, code: Code, gradient: Vector, cotangents: Sequence[Sequence[Vector]]
) -> Vector:
    """Cotangents of the inputs to that of the gradient."""
    if spec.family == "optim4rl":
        return code.fma(cotangents[1][0], gradient * 2.0, cotangents[0][0])
    if spec.family == "linear":
        return cotangents[0][0]
    logarithm = _scaled_logarithm(spec, code, gradient)
    # At least epsilon times the range: the division is safe.
    scale = (code.absolute(gradient) + spec.log_epsilon) * spec.log_range
    large = cotangents[0][0] * simd_math.sign(code, gradient) / scale
    small = cotangents[0][1] * math.exp(spec.log_range)
    return logarithm.where(">=", -1.0, large, small)


def direction(spec: Spec, code: Code, gradient: Vector, outputs: Sequence[Vector]) -> Vector:
    """The step before the learning rate, from the outputs of all branches."""
    first = simd_math.exp(code, outputs[0])
    if spec.family == "optim4rl":
        second = simd_math.exp(code, outputs[1])
        # The root's argument is at least root_epsilon.
        root = code.sqrt(second + spec.root_epsilon)
        return simd_math.sign(code, gradient) * first / root
    if spec.family == "linear":
        return code.fma(simd_math.exp(code, outputs[1]), outputs[2], first * gradient)
    return first * gradient


def direction_vjp(
    spec: Spec, code: Code, gradient: Vector, outputs: Sequence[Vector], cotangent: Vector
) -> tuple[list[Vector], Vector]:
    """The step's cotangent to those of the outputs and, around the network, the gradient."""
    first = simd_math.exp(code, outputs[0])
    if spec.family == "optim4rl":
        second = simd_math.exp(code, outputs[1])
        # Both divisors are at least root_epsilon or its root.
        argument = second + spec.root_epsilon
        step = simd_math.sign(code, gradient) * first / code.sqrt(argument)
        by_first = cotangent * step
        return [by_first, by_first * (second / argument) * -0.5], code.vector(0.0)
    by_gradient = cotangent * first
    if spec.family == "linear":
        by_third = cotangent * simd_math.exp(code, outputs[1])
        return [by_gradient * gradient, by_third * outputs[2], by_third], by_gradient
    return [by_gradient * gradient], by_gradient
