//! The same on x86-64, where the instruction is PCLMULQDQ.
//!
//! Bits are reflected, as in all of CRC-32: the lowest bit of a block is its highest power of x. How
//! blocks are folded and the rest is reduced is from Gopal et al., "Fast CRC Computation for Generic
//! Polynomials Using PCLMULQDQ Instruction" (Intel, 2009); the constants are computed here.

use std::arch::x86_64::{
    __m128i, _mm_and_si128, _mm_clmulepi64_si128, _mm_cvtsi128_si32, _mm_set_epi64x,
    _mm_srli_si128, _mm_xor_si128,
};

use super::{Clmul, LEAD_BYTES, SMALL_BODY_BYTES_MAX, Work};

/// The polynomial of CRC-32, x^32 and all.
const POLYNOMIAL: u64 = 1 << 32 | 0x04C1_1DB7;

/// The same without x^32, reflected.
const REFLECTED: u32 = 0x04C1_1DB7_u32.reverse_bits();

/// x^`power` modulo the polynomial, reflected.
const fn power_of_x(power: u32) -> u32 {
    let mut rest = 1 << 31;
    let mut at = 0;
    while at < power {
        rest = times_x(rest);
        at += 1;
    }
    rest
}

/// `rest` x modulo the polynomial, both reflected.
const fn times_x(rest: u32) -> u32 {
    let overflow = if rest & 1 == 1 { REFLECTED } else { 0 };
    rest >> 1 ^ overflow
}

/// x^95 divided by the polynomial, reflected.
const fn quotient_of_x95() -> u64 {
    // The first 32 digits of the dividend are 1 and zeros, which the polynomial does not go into.
    let (mut quotient, mut rest) = (0_u64, 1 << 31);
    let mut digits = 0;
    while digits < 64 {
        rest <<= 1;
        quotient <<= 1;
        if rest >> 32 == 1 {
            rest ^= POLYNOMIAL;
            quotient |= 1;
        }
        digits += 1;
    }
    quotient.reverse_bits()
}

/// The checksum of so many zero bytes. That of other bytes is this, plus (which is: xor) what they
/// leave of the polynomial by themselves: so where a body begins plays no part.
static OF_ZEROS: [u32; SMALL_BODY_BYTES_MAX + 1] = {
    let mut sums = [0; SMALL_BODY_BYTES_MAX + 1];
    let mut register = u32::MAX;
    let mut bytes = 0;
    while bytes <= SMALL_BODY_BYTES_MAX {
        sums[bytes] = !register;
        let mut bit = 0;
        while bit < 8 {
            register = times_x(register);
            bit += 1;
        }
        bytes += 1;
    }
    sums
};

/// The 16 bytes from the n-th on keep the last n bytes of a block, and make zeros of the others.
static KEEP: [u8; 32] = {
    let mut keep = [0; 32];
    let mut at = 16;
    while at < 32 {
        keep[at] = 0xff;
        at += 1;
    }
    keep
};

#[target_feature(enable = "pclmulqdq")]
pub(super) fn run<W: Work>(clmul: Clmul, work: W) -> W::Output {
    work.run(clmul)
}

#[target_feature(enable = "pclmulqdq")]
#[inline]
pub(super) fn checksum(bytes: &[u8]) -> Option<u32> {
    let body_bytes = bytes.len().checked_sub(LEAD_BYTES)?;
    let of_zeros = OF_ZEROS.get(body_bytes)?;
    let Some(before_last) = body_bytes.checked_sub(1) else {
        return Some(*of_zeros);
    };
    // The first block is the short one: it has something in front of it, so that whole blocks can be
    // read without looking at what is behind the body.
    let first_bytes = before_last % 16 + 1;
    let first = if let Some(before) = first_bytes.checked_sub(16 - LEAD_BYTES) {
        vector(*bytes.get(before..)?.first_chunk()?)
    } else {
        let last = bytes.get(first_bytes..)?.first_chunk()?;
        _mm_set_epi64x(i64::from_le_bytes(*last), 0)
    };
    let keep = vector(*KEEP.get(first_bytes..)?.first_chunk()?);
    let mut sum = _mm_and_si128(first, keep);
    let mut rest = bytes.get(LEAD_BYTES + first_bytes..)?;
    while let Some((block, behind)) = rest.split_first_chunk() {
        sum = fold(sum, vector(*block));
        rest = behind;
    }
    Some(reduce(sum) ^ of_zeros)
}

/// A block, as it is in memory.
#[target_feature(enable = "sse2")]
#[inline]
fn vector(block: [u8; 16]) -> __m128i {
    let (halves, _) = block.as_chunks();
    _mm_set_epi64x(i64::from_le_bytes(halves[1]), i64::from_le_bytes(halves[0]))
}

/// The sum, moved on by a block, and that block: congruent to `sum` x^128 + `block`.
#[target_feature(enable = "pclmulqdq")]
#[inline]
fn fold(sum: __m128i, block: __m128i) -> __m128i {
    // The product of two reflected halves lacks a factor of x.
    const X_191: i64 = (power_of_x(191) as i64) << 32;
    const X_127: i64 = (power_of_x(127) as i64) << 32;
    let powers = _mm_set_epi64x(X_127, X_191);
    let first = _mm_clmulepi64_si128(sum, powers, 0x00);
    let second = _mm_clmulepi64_si128(sum, powers, 0x11);
    _mm_xor_si128(_mm_xor_si128(first, second), block)
}

/// What `sum` x^32 leaves of the polynomial, by Barrett's reduction.
#[target_feature(enable = "pclmulqdq")]
#[inline]
fn reduce(sum: __m128i) -> u32 {
    const X_95: i64 = power_of_x(95) as i64;
    const QUOTIENT: i64 = quotient_of_x95().cast_signed();
    let constants = _mm_set_epi64x(QUOTIENT, X_95);
    // 96 digits, the last of which is bit 95.
    let folded = _mm_clmulepi64_si128(sum, constants, 0x00);
    let folded = _mm_xor_si128(folded, _mm_srli_si128(sum, 8));
    let quotient = _mm_clmulepi64_si128(folded, constants, 0x10);
    let multiple =
        _mm_clmulepi64_si128(quotient, _mm_set_epi64x(0, i64::from(REFLECTED) << 1), 0x00);
    let rest = _mm_srli_si128(_mm_xor_si128(folded, multiple), 8);
    _mm_cvtsi128_si32(rest).cast_unsigned()
}
