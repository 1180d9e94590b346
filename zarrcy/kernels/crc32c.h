/* CRC-32C (Castagnoli; RFC 3720, appendix B.4), with the instruction that x86-64 and ARMv8 have for it.

   The instruction takes three cycles but starts anew each cycle, so three streams side by side are three times as fast as
   one. Their results are joined by appending zeros: crc(A B) = shift(crc(A), |B|) ^ crc(B), where shift multiplies by
   x^(8 |B|) modulo the polynomial (V. Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction",
   Intel, 2011). The multiplication by a fixed power is linear, so that four look-ups, one for each byte, do it. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CRC32C_POLYNOMIAL 0x82f63b78u /* reflected: bit 31 is the coefficient of x^0 */

/* Lengths of a stream, in bytes: long ones amortise the joining, short ones take what is left. */
enum { CRC32C_LONG = 4096, CRC32C_SHORT = 256 };

typedef uint32_t crc32c_table[256];
static crc32c_table crc32c_bytes[8];        /* [k][b]: the byte b, followed by k zero bytes */
static crc32c_table crc32c_after_long[4];   /* [k][b]: the byte b << 8k, followed by CRC32C_LONG zero bytes */
static crc32c_table crc32c_after_short[4];
static uint32_t (*crc32c_update)(uint32_t crc, const uint8_t* data, size_t nbytes);
static const char* crc32c_how;

static uint32_t crc32c_times(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = 0x80000000u; bit; bit >>= 1) {
    if (a & bit) product ^= b;
    b = (b >> 1) ^ (CRC32C_POLYNOMIAL & (0u - (b & 1)));
  }
  return product;
}

/* x^(8 nbytes) */
static uint32_t crc32c_power(size_t nbytes) {
  uint32_t power = 0x80000000u; /* x^0 */
  uint32_t square = 0x40000000u; /* x^1, x^2, x^4 … */
  for (size_t n = 8 * nbytes; n; n >>= 1) {
    if (n & 1) power = crc32c_times(power, square);
    square = crc32c_times(square, square);
  }
  return power;
}

static void crc32c_fill_shift(crc32c_table table[4], size_t nbytes) {
  const uint32_t power = crc32c_power(nbytes);
  for (int k = 0; k < 4; ++k) {
    /* The table is linear: each entry is the sum of the entries of its bits. */
    table[k][0] = 0;
    for (int bit = 0; bit < 8; ++bit) table[k][1 << bit] = crc32c_times(power, (uint32_t)1 << (8 * k + bit));
    for (int b = 3; b < 256; ++b) table[k][b] = table[k][b & (b - 1)] ^ table[k][b & -b];
  }
}

static uint32_t crc32c_shift(crc32c_table table[4], uint32_t crc) {
  return table[0][crc & 255] ^ table[1][crc >> 8 & 255] ^ table[2][crc >> 16 & 255] ^ table[3][crc >> 24];
}

static uint64_t crc32c_load(const uint8_t* data) {
  uint64_t word;
  memcpy(&word, data, 8);
  return word;
}

/* Eight bytes at a time by tables ("slicing by 8"; M. Kounavis, F. Berry, 2005), on processors of either byte order. */
static uint32_t crc32c_update_tables(uint32_t crc, const uint8_t* p, size_t nbytes) {
  for (; nbytes >= 8; p += 8, nbytes -= 8) {
    const uint32_t low = crc ^ (p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
    crc = crc32c_bytes[7][low & 255] ^ crc32c_bytes[6][low >> 8 & 255] ^ crc32c_bytes[5][low >> 16 & 255] ^
          crc32c_bytes[4][low >> 24] ^ crc32c_bytes[3][p[4]] ^ crc32c_bytes[2][p[5]] ^ crc32c_bytes[1][p[6]] ^
          crc32c_bytes[0][p[7]];
  }
  for (; nbytes; --nbytes) crc = crc >> 8 ^ crc32c_bytes[0][(crc ^ *p++) & 255];
  return crc;
}

/* The instruction's function, for the two processors: WORD takes 8 bytes, BYTE one. */
#define CRC32C_DEFINE_UPDATE(name, target, WORD, BYTE)                                                              \
  target static const uint8_t* name##_streams(uint32_t* crc, const uint8_t* p, size_t* nbytes, size_t length,       \
                                              crc32c_table table[4]) {                                              \
    while (*nbytes >= 3 * length) {                                                                                 \
      uint32_t a = *crc, b = 0, c = 0;                                                                              \
      for (const uint8_t* end = p + length; p < end; p += 8) {                                                      \
        a = (uint32_t)WORD(a, crc32c_load(p));                                                                      \
        b = (uint32_t)WORD(b, crc32c_load(p + length));                                                             \
        c = (uint32_t)WORD(c, crc32c_load(p + 2 * length));                                                         \
      }                                                                                                             \
      *crc = crc32c_shift(table, crc32c_shift(table, a) ^ b) ^ c;                                                   \
      p += 2 * length;                                                                                              \
      *nbytes -= 3 * length;                                                                                        \
    }                                                                                                               \
    return p;                                                                                                       \
  }                                                                                                                 \
  target static uint32_t name(uint32_t crc, const uint8_t* p, size_t nbytes) {                                      \
    p = name##_streams(&crc, p, &nbytes, CRC32C_LONG, crc32c_after_long);                                           \
    p = name##_streams(&crc, p, &nbytes, CRC32C_SHORT, crc32c_after_short);                                         \
    for (; nbytes >= 8; p += 8, nbytes -= 8) crc = (uint32_t)WORD(crc, crc32c_load(p));                             \
    for (; nbytes; --nbytes) crc = (uint32_t)BYTE(crc, *p++);                                                       \
    return crc;                                                                                                     \
  }

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <nmmintrin.h>
CRC32C_DEFINE_UPDATE(crc32c_update_sse42, __attribute__((target("sse4.2"))), _mm_crc32_u64, _mm_crc32_u8)
static int crc32c_has_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
#define CRC32C_INSTRUCTION crc32c_update_sse42
#define CRC32C_INSTRUCTION_NAME "sse4.2"
#elif defined(__aarch64__) && (defined(__linux__) || defined(__APPLE__))
#include <arm_acle.h>
#if defined(__clang__)
#define CRC32C_TARGET __attribute__((target("crc")))
#else
#define CRC32C_TARGET __attribute__((target("+crc")))
#endif
CRC32C_DEFINE_UPDATE(crc32c_update_arm, CRC32C_TARGET, __crc32cd, __crc32cb)
#if defined(__linux__)
#include <sys/auxv.h>
static int crc32c_has_instruction(void) { return (getauxval(AT_HWCAP) >> 7) & 1; } /* HWCAP_CRC32 */
#else
static int crc32c_has_instruction(void) { return 1; } /* every ARM Mac has it */
#endif
#define CRC32C_INSTRUCTION crc32c_update_arm
#define CRC32C_INSTRUCTION_NAME "armv8-crc"
#endif

/* Fills the tables and chooses the function. Called once, before anything else. */
static void crc32c_prepare(void) {
  for (int b = 0; b < 256; ++b) {
    uint32_t crc = (uint32_t)b;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (CRC32C_POLYNOMIAL & (0u - (crc & 1)));
    crc32c_bytes[0][b] = crc;
  }
  for (int k = 1; k < 8; ++k)
    for (int b = 0; b < 256; ++b)
      crc32c_bytes[k][b] = crc32c_bytes[k - 1][b] >> 8 ^ crc32c_bytes[0][crc32c_bytes[k - 1][b] & 255];
  crc32c_fill_shift(crc32c_after_long, CRC32C_LONG);
  crc32c_fill_shift(crc32c_after_short, CRC32C_SHORT);
  crc32c_update = crc32c_update_tables;
  crc32c_how = "tables";
#ifdef CRC32C_INSTRUCTION
  if (crc32c_has_instruction()) {
    crc32c_update = CRC32C_INSTRUCTION;
    crc32c_how = CRC32C_INSTRUCTION_NAME;
  }
#endif
}

static uint32_t crc32c_fast(const void* data, size_t nbytes) {
  return ~crc32c_update(~0u, (const uint8_t*)data, nbytes);
}
static uint32_t crc32c_by_tables(const void* data, size_t nbytes) {
  return ~crc32c_update_tables(~0u, (const uint8_t*)data, nbytes);
}
