"""Elementary functions on the vectors of ``learned_opt.simd``, in float32.

Their errors are like those of XLA's own approximations (a few units of the last place);
the coefficients are minimax fits made for this file, apart from the inverse error
function's, which ``random_normal`` names.
"""

import math
from collections.abc import Sequence

from learned_opt import random_normal
from learned_opt.simd import Code, Value, Vector

# tanh(x) = x P(x^2) / Q(x^2) on [0, 8.3], ascending powers; beyond, tanh is 1 in float32.
# Relative error of the fit 9e-9.
_TANH_LIMIT = 8.3
_TANH_P = (0.999999991, 0.134258704, 0.00354916911, 2.15084951e-05, 1.46482586e-08)
_TANH_Q = (1.0, 0.467591953, 0.0260799495, 0.000337395039, 8.29510821e-07)
# log(1 + f) = f - f^2 / 2 + f^3 L(f) for 1 + f in [sqrt(1/2), sqrt(2)]; error 6e-9.
_LOG = (
    *(0.333333317, -0.250008211, 0.200012271, -0.166233552),
    *(0.142017507, -0.131601974, 0.127616408, -0.0763453805),
)
# ln 2 in two parts; the first has few bits, so that its product with an exponent is exact.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_SQRT_HALF_BITS = 0x3F3504F3


def polynomial(code: Code, ascending: Sequence[float], x: Vector) -> Vector:
    """The sum of ``ascending[i] * x**i``."""
    value = code.vector(ascending[-1])
    for coefficient in reversed(ascending[:-1]):
        value = code.fma(value, x, coefficient)
    return value


def tanh(code: Code, x: Vector) -> Vector:
    """The hyperbolic tangent; relative error about 3e-7."""
    x = x.where(">", _TANH_LIMIT, _TANH_LIMIT, x)
    x = x.where("<", -_TANH_LIMIT, -_TANH_LIMIT, x)
    square = x * x
    # Q is a sum of positive terms from 1 on, so the division is safe.
    return x * polynomial(code, _TANH_P, square) / polynomial(code, _TANH_Q, square)


def sign(code: Code, x: Vector) -> Vector:
    """-1, 1, and zeros and NaN as they are."""
    del code
    return x.where(">", 0.0, 1.0, x.where("<", 0.0, -1.0, x))


def log(code: Code, x: Vector) -> Vector:
    """The natural logarithm of positive normal numbers; infinity and NaN as they are.

    Callers see to it that x is at least 1.2e-38: other arguments give meaningless numbers.
    """
    builder = code.builder
    # The exponent that leaves a mantissa in [sqrt(1/2), sqrt(2)).
    above = builder.sub(x.bits(), code.integers(_SQRT_HALF_BITS))
    exponent = builder.ashr(above, code.integers(23))
    mantissa = code.from_bits(builder.sub(x.bits(), builder.shl(exponent, code.integers(23))))
    number = Vector(code, builder.sitofp(exponent, x.value.type))
    f = mantissa - 1.0
    square = f * f
    tail = code.fma(polynomial(code, _LOG, f), square * f, number * _LN2_LOW)
    tail = code.fma(square, -0.5, tail)
    result = code.fma(number, _LN2_HIGH, tail + f)
    return x.where("<", math.inf, result, x)


def exp(code: Code, x: Vector) -> Vector:
    """e to the x: 0 below -87.3 (where float32 ends), infinity above 88.7."""
    builder = code.builder
    # NaN is kept out of the conversion to an integer, and put back at the end.
    safe = x.where(">", 88.7, 88.7, x.where(">", -87.3, x, -87.3))
    shifted = code.intrinsic("floor", code.fma(safe, math.log2(math.e), 0.5).value)
    number = Vector(code, shifted)
    r = code.fma(number, -_LN2_LOW, code.fma(number, -_LN2_HIGH, safe))
    power = polynomial(code, [1.0 / math.factorial(i) for i in range(8)], r)
    # 2^n in two factors, as n may be 128, one more than an exponent holds.
    exponent = builder.fptosi(shifted, code.integers(0).type)
    half = builder.ashr(exponent, code.integers(1))
    for part in (half, builder.sub(exponent, half)):
        biased = builder.add(part, code.integers(127))
        power = power * code.from_bits(builder.shl(biased, code.integers(23)))
    power = x.where(">", 88.7, math.inf, power)
    power = x.where("<", -87.3, 0.0, power)
    return x.where("<=", math.inf, power, x)


def threefry(code: Code, key: tuple[Value, Value], counters: tuple[Value, Value]) -> list[Value]:
    """Two words of the cipher Threefry-2x32 with 20 rounds, as JAX's default generator."""
    builder = code.builder
    first, second = (code.integers(word) for word in key)
    third = builder.xor(builder.xor(first, second), code.integers(0x1BD11BDA))
    schedule = (first, second, third)
    x, y = builder.add(counters[0], first), builder.add(counters[1], second)
    rotations = ((13, 15, 26, 6), (17, 29, 16, 24))
    for group in range(5):
        for rotation in rotations[group % 2]:
            x = builder.add(x, y)
            y = builder.xor(x, code.intrinsic("fshl", y, y, code.integers(rotation)))
        x = builder.add(x, schedule[(group + 1) % 3])
        y = builder.add(y, schedule[(group + 2) % 3])
        y = builder.add(y, code.integers(group + 1))
    return [x, y]


def normal(code: Code, bits: Value) -> Vector:
    """``random_normal.standard_normal``'s draws from random words."""
    builder = code.builder
    mantissa = builder.lshr(bits, code.integers(9))
    one_to_two = code.from_bits(builder.or_(mantissa, code.integers(0x3F800000)))
    x = (one_to_two - 1.5) * 2.0 + 2.0**-23
    # x is in the open interval (-1, 1), so the log's argument is at least 2^-23.
    w = 0.0 - log(code, (1.0 - x) * (x + 1.0))
    root = code.sqrt(w.where(">", 1.0, w, 1.0)) - 3.0  # of at least 1
    tail = polynomial(code, random_normal.TAIL[::-1], root)
    centre = polynomial(code, random_normal.CENTRE[::-1], w - 2.5)
    return x * math.sqrt(2.0) * w.where("<", 5.0, centre, tail)
