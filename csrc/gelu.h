// The activation of the MLP.
#pragma once
#include <stdint.h>

#include "vector.h"

namespace {

// x <- x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 = x / (1 + 2^t), t = x (a + 0.044715 a x^2).
//
// No branch and no call, so that a compiler takes many numbers at once. 2^t is 2^n 2^f for the
// nearest integer n: a large number added to t leaves n in its last bits, from where it goes to the
// exponent. Beyond 128 it is infinite, and a t that is no number may be any, since x is none.
void gelu(float *numbers, int64_t count) {
    constexpr float a = -2.302208198f;  // -2 sqrt(2/pi) / ln 2
    constexpr float large = 12582912;   // 1.5 * 2^23
    for (int64_t i = 0; i < count; ++i) {
        const float x = numbers[i];
        float t = x * (a + 0.044715f * a * x * x);
        t = t > -126 ? t : -126;
        t = t < 128 ? t : 128;
        const float shifted = t + large, f = t - (shifted - large);
        float power = 1.525273380e-5f;  // (ln 2)^k / k!, k = 7, 6, ...
        power = power * f + 1.540353039e-4f;
        power = power * f + 1.333355815e-3f;
        power = power * f + 9.618129108e-3f;
        power = power * f + 5.550410866e-2f;
        power = power * f + 2.402265070e-1f;
        power = power * f + 6.931471806e-1f;
        power = power * f + 1;
        numbers[i] = x / (1 + power * float_of_bits((bits_of_float(shifted) + 127) << 23));
    }
}

}  // namespace
