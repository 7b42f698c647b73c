// Inner loops for Xtensa processors with single-precision floating point and MAC16: the ESP32's LX6, the ESP32-S3's LX7.
// What each function computes stands at its declaration in kernels_xtensa.cc. Both ABIs.
//
// Nothing here stores anywhere but to the stack, by a1 or a2, which tests/check_loops holds it to: on chips of revision 1
// a store to PSRAM needs the compiler's care. No literals and no constants in memory, so that the code can lie in IRAM.

#ifdef ESP_PLATFORM
    .section .iram1.thimble, "ax"
#else
    .section .text.thimble_kernels, "ax"
#endif

#ifdef __XTENSA_WINDOWED_ABI__
#define ENTER entry a1, 48; s32i a0, a1, 0
#define LEAVE l32i a0, a1, 0; retw
#else
#define ENTER addi a1, a1, -16; s32i a0, a1, 0; s32i a12, a1, 4; s32i a13, a1, 8; s32i a14, a1, 12
#define LEAVE l32i a0, a1, 0; l32i a12, a1, 4; l32i a13, a1, 8; l32i a14, a1, 12; addi a1, a1, 16; ret
#endif

.macro FUNCTION name
    .align 4
    .global \name
    .type \name, @function
\name:
    ENTER
.endm

// ---------------------------------------------------------------------------------------------------------------------
// Dot products. 16 registers hold four of the contract's eight lanes for three rows, an element of x and one of each
// row. So rows are gone through twice, first for the lanes 0, 4, 2, 6, then, one element further, for 1, 5, 3, 7.
//
//   a2  sums           f0  f1  f2  f3   lanes of the first row
//   a3  first row      f4  f5  f6  f7   of the second
//   a4  x              f8  f9  f10 f11  of the third
//   a5  groups of 8    f12              an element of x
//   a6  elements left  f13 f14 f15      of the rows
//   a7  second row
//   a8  third row

// One element of each row into lanes A, B, C.
.macro STEP_f32 rows, at, A, B, C
    lsi f12, a4, 4*(\at)
    lsi f13, a3, 4*(\at)
  .if \rows == 3
    lsi f14, a7, 4*(\at)
    lsi f15, a8, 4*(\at)
  .endif
    madd.s f\A, f13, f12
  .if \rows == 3
    madd.s f\B, f14, f12
    madd.s f\C, f15, f12
  .endif
.endm

.macro STEP_16 take, rows, at, A, B, C
    lsi f12, a4, 4*(\at)
    \take a3, \at, \A
  .if \rows == 3
    \take a7, \at, \B
    \take a8, \at, \C
  .endif
.endm

.macro TAKE_bf16 row, at, lane
    l16ui a9, \row, 2*(\at)
    slli a9, a9, 16
    wfr f13, a9
    madd.s f\lane, f13, f12
.endm
.macro STEP_bf16 rows, at, A, B, C
    STEP_16 TAKE_bf16, \rows, \at, \A, \B, \C
.endm

// The load extends the sign, so that one shift brings sign, exponent and mantissa to their places; the mask a10 clears
// the sign's copies. a11 has the exponent's bits: where none is set the number is a subnormal or a zero. a12 is the
// difference of the exponents' biases.
.macro TAKE_f16 row, at, lane
    l16si a9, \row, 2*(\at)
    slli a9, a9, 13
    and a9, a9, a10
    bany a9, a11, .Lnormal\@
    call0 .Lexpand_subnormal
.Lnormal\@:
    add a9, a9, a12
    wfr f13, a9
    madd.s f\lane, f13, f12
.endm
.macro STEP_f16 rows, at, A, B, C
    STEP_16 TAKE_f16, \rows, \at, \A, \B, \C
.endm

// a9 has the sign and, in the places of float32's, the mantissa of a float16 subnormal; leaves the bits of its float32
// less a12. As the fraction of 2^-14, less 2^-14, it is exact, and the FPU sees no subnormal.
    .align 4
.Lexpand_subnormal:
    movi a13, 113
    slli a13, a13, 23
    wfr f15, a13
    add a14, a9, a9
    srli a14, a14, 1
    sub a9, a9, a14
    add a14, a14, a13
    wfr f14, a14
    sub.s f14, f14, f15
    rfr a14, f14
    or a9, a9, a14
    sub a9, a9, a12
    ret

// Four elements of eight, from the one `at` on.
.macro GROUP type, rows, at
    STEP_\type \rows, (\at), 0, 4, 8
    STEP_\type \rows, (\at)+4, 1, 5, 9
    STEP_\type \rows, (\at)+2, 2, 6, 10
    STEP_\type \rows, (\at)+6, 3, 7, 11
.endm

.macro STEP_IF_LEFT type, rows, at, A, B, C
    blti a6, \at + 1, .Lnone_left\@
    STEP_\type \rows, \at, \A, \B, \C
.Lnone_left\@:
.endm

.macro ADVANCE rows, elements, element_bytes
    addi a4, a4, 4*\elements
    addi a3, a3, \element_bytes*\elements
  .if \rows == 3
    addi a7, a7, \element_bytes*\elements
    addi a8, a8, \element_bytes*\elements
  .endif
.endm

// What loops there are: of two groups, of one, or, where the body is too long for the loop instruction, by a branch.
.macro GROUPS_f32 rows
    srli a9, a5, 1
    loopnez a9, .Lpairs_done\@
    GROUP f32, \rows, 0
    GROUP f32, \rows, 8
    ADVANCE \rows, 16, 4
.Lpairs_done\@:
    bbci a5, 0, .Leven\@
    j .Lodd\@
.Leven\@:
    j .Ldone\@
.Lodd\@:
    GROUP f32, \rows, 0
    ADVANCE \rows, 8, 4
.Ldone\@:
.endm
.macro GROUPS_bf16 rows
    loopnez a5, .Ldone\@
    GROUP bf16, \rows, 0
    ADVANCE \rows, 8, 2
.Ldone\@:
.endm
.macro GROUPS_f16 rows
    beqz a5, .Ldone\@
    s32i a5, a2, 12
.Lgroup\@:
    GROUP f16, \rows, 0
    ADVANCE \rows, 8, 2
    addi a5, a5, -1
    bnez a5, .Lgroup\@
    l32i a5, a2, 12
.Ldone\@:
.endm

// Sums of the pass's four lanes are left in f0, f4, f8.
.macro PASS type, rows
    movi a9, 0
  .irp lane, 0, 1, 2, 3
    wfr f\lane, a9
  .endr
  .if \rows == 3
  .irp lane, 4, 5, 6, 7, 8, 9, 10, 11
    wfr f\lane, a9
  .endr
  .endif
    GROUPS_\type \rows
    STEP_IF_LEFT \type, \rows, 0, 0, 4, 8
    STEP_IF_LEFT \type, \rows, 2, 2, 6, 10
    STEP_IF_LEFT \type, \rows, 4, 1, 5, 9
    STEP_IF_LEFT \type, \rows, 6, 3, 7, 11
    add.s f0, f0, f1
    add.s f2, f2, f3
    add.s f0, f0, f2
  .if \rows == 3
    add.s f4, f4, f5
    add.s f6, f6, f7
    add.s f4, f4, f6
    add.s f8, f8, f9
    add.s f10, f10, f11
    add.s f8, f8, f10
  .endif
.endm

.macro ADD_FIRST_PASS sum, at
    lsi f12, a2, \at
    add.s f\sum, f12, f\sum
    ssi f\sum, a2, \at
.endm

// a5: elements; a6: bytes of a row.
.macro DOT type, rows, element_shift
FUNCTION thimble_dot\rows\()_\type
  .if \rows == 3
    add a7, a3, a6
    add a8, a7, a6
  .endif
    extui a6, a5, 0, 3
    srli a5, a5, 3
  .ifc \type, f16
    movi a10, -1
    slli a10, a10, 28
    slli a9, a10, 3
    xor a10, a10, a9
    movi a9, -1
    xor a10, a10, a9
    movi a11, 31
    slli a11, a11, 23
    movi a12, 112
    slli a12, a12, 23
  .endif
    PASS \type, \rows
    ssi f0, a2, 0
  .if \rows == 3
    ssi f4, a2, 4
    ssi f8, a2, 8
  .endif
    slli a9, a5, 5
    addi a9, a9, -4
    sub a4, a4, a9
    slli a9, a5, 3 + \element_shift
    addi a9, a9, -(1 << \element_shift)
    sub a3, a3, a9
  .if \rows == 3
    sub a7, a7, a9
    sub a8, a8, a9
  .endif
    addi a6, a6, -1
    PASS \type, \rows
    ADD_FIRST_PASS 0, 0
  .if \rows == 3
    ADD_FIRST_PASS 4, 4
    ADD_FIRST_PASS 8, 8
  .endif
    LEAVE
.endm

    DOT f32, 3, 2
    DOT f32, 1, 2
    DOT f16, 3, 1
    DOT f16, 1, 1
    DOT bf16, 3, 1
    DOT bf16, 1, 1

// ---------------------------------------------------------------------------------------------------------------------
// Two lanes, every fourth element, of six rows of float16 or three. A half whose sign, exponent and mantissa are brought to
// their places in a float32 is 2^-112 times its number, a float32 subnormal where the half is one; x times 2^112 makes
// up for it, and both are exact: so nothing has to be looked at, if only the FPU takes subnormals for what they are.
//
//   a2  sums           a3 a6 a7 a8 a9 a10  rows     f0 ... f5   one lane of each     f12      an element of x
//   a4  x              a11  as a10 above            f6 ... f11  the other            f13 f14  of the rows
//   a5  elements       a12 a13 a14  of three rows                                    f15      2^112

.macro THREE_f16 at, row0, row1, row2, A, B, C
    l16si a12, \row0, 8*(\at)
    l16si a13, \row1, 8*(\at)
    l16si a14, \row2, 8*(\at)
    slli a12, a12, 13
    slli a13, a13, 13
    slli a14, a14, 13
    and a12, a12, a11
    and a13, a13, a11
    and a14, a14, a11
    wfr f13, a12
    wfr f14, a13
    madd.s f\A, f13, f12
    wfr f13, a14
    madd.s f\B, f14, f12
    madd.s f\C, f13, f12
.endm

// An element of each row into lanes f0 ... f5 or, the other ones, f6 ... f11.
.macro LANE_f16 rows, at
    lsi f12, a4, 16*(\at)
    mul.s f12, f12, f15
  .if (\at) & 1
    THREE_f16 \at, a3, a7, a8, 6, 7, 8
  .else
    THREE_f16 \at, a3, a7, a8, 0, 1, 2
  .endif
  .if \rows == 6
  .if (\at) & 1
    THREE_f16 \at, a9, a10, a6, 9, 10, 11
  .else
    THREE_f16 \at, a9, a10, a6, 3, 4, 5
  .endif
  .endif
.endm

.macro ADVANCE_LANES rows, elements
    addi a4, a4, 8*\elements
    addi a4, a4, 8*\elements
  .irp row, 3, 7, 8
    addi a\row, a\row, 8*\elements
  .endr
  .if \rows == 6
  .irp row, 9, 10, 6
    addi a\row, a\row, 8*\elements
  .endr
  .endif
.endm

.macro DOT_LANES rows, lanes:vararg
FUNCTION thimble_lanes\rows\()_f16
    add a7, a3, a6
    add a8, a7, a6
  .if \rows == 6
    add a9, a8, a6
    add a10, a9, a6
    add a6, a10, a6
  .endif
    movi a11, -1
    slli a11, a11, 28
    slli a12, a11, 3
    xor a11, a11, a12
    movi a12, -1
    xor a11, a11, a12
    movi a12, 239
    slli a12, a12, 23
    wfr f15, a12
    movi a12, 0
  .irp lane, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    wfr f\lane, a12
  .endr
    srli a0, a5, 3
    beqz a0, .Lpairs\@
.Leight\@:
  .irp at, 0, 1, 2, 3, 4, 5, 6, 7
    LANE_f16 \rows, \at
  .endr
    ADVANCE_LANES \rows, 8
    addi a0, a0, -1
    bnez a0, .Leight\@
.Lpairs\@:
    extui a0, a5, 1, 2
    loopnez a0, .Lodd\@
    LANE_f16 \rows, 0
    LANE_f16 \rows, 1
    ADVANCE_LANES \rows, 2
.Lodd\@:
    bbci a5, 0, .Ldone\@
    LANE_f16 \rows, 0
.Ldone\@:
    add.s f0, f0, f6
    add.s f1, f1, f7
    add.s f2, f2, f8
  .if \rows == 6
    add.s f3, f3, f9
    add.s f4, f4, f10
    add.s f5, f5, f11
  .endif
  .irp sum, \lanes
    ssi f\sum, a2, 4*\sum
  .endr
    LEAVE
.endm

    DOT_LANES 6, 0, 1, 2, 3, 4, 5
    DOT_LANES 3, 0, 1, 2

// ---------------------------------------------------------------------------------------------------------------------
// Codes of a screen's record, times a query of 16 bits. A register holds two codes, j and j + 2, in its halves.
//
//   a2  record   a5  a6  a7   a word of the planes of 4, 2 and 1 bits   a8   codes
//   a3  query    a11 a12 a13  the masks of two codes' parts in it       a9   a part
//   a4  units                                                           a10  of the query

.macro PART to, word, shift, mask
  .if \shift == 0
    and \to, \word, \mask
  .else
    srli \to, \word, \shift
    and \to, \to, \mask
  .endif
.endm

// Codes 4*group + odd and two further.
.macro PAIR bits, group, odd
  .if \bits & 4
    PART a8, a5, (4*((\group)/4)+8*\odd), a11
  .endif
  .if \bits & 2
  .if \bits & 4
    PART a9, a6, (2*((\group)/2)+8*\odd), a12
    addx4 a8, a8, a9
  .else
    PART a8, a6, (2*((\group)/2)+8*\odd), a12
  .endif
  .endif
  .if \bits & 1
  .if \bits & 6
    PART a9, a7, ((\group)+8*\odd), a13
    addx2 a8, a8, a9
  .else
    PART a8, a7, ((\group)+8*\odd), a13
  .endif
  .endif
    l32i a10, a3, 8*(\group)+4*\odd
    mula.aa.ll a8, a10
    mula.aa.hh a8, a10
.endm

// Groups `first` and first + 4, which lie in the same words of the planes.
.macro PAIRS bits, first
  .if \bits & 4
    l32i a5, a2, 4*\first
  .endif
  .if \bits & 2
    l32i a6, a2, 4*(\bits & 4) + 4*(\first & 1)
  .endif
  .if (\bits & 1) && \first == 0
    l32i a7, a2, 4*(\bits & 6)
  .endif
    PAIR \bits, \first, 0
    PAIR \bits, \first, 1
    PAIR \bits, \first+4, 0
    PAIR \bits, \first+4, 1
.endm

.macro MASK to, part
    movi \to, \part
    slli a9, \to, 16
    or \to, \to, a9
.endm

.macro SUM_CODES bits
FUNCTION thimble_sum_codes\bits
    movi a9, 0
    wsr a9, acclo
    wsr a9, acchi
    MASK a11, 15
    MASK a12, 3
    MASK a13, 1
.Lunit\@:
    PAIRS \bits, 0
    PAIRS \bits, 1
    PAIRS \bits, 2
    PAIRS \bits, 3
    addi a2, a2, 4*\bits
    addi a3, a3, 64
    addi a4, a4, -1
    bnez a4, .Lunit\@
    rsr a2, acclo
    LEAVE
.endm

    SUM_CODES 1
    SUM_CODES 2
    SUM_CODES 3
    SUM_CODES 4
    SUM_CODES 5
    SUM_CODES 6
    SUM_CODES 7

// ---------------------------------------------------------------------------------------------------------------------
// What codes are worth, of two rows side by side, so that no load is waited for.
//
//   a2  sums             a5  what kernels_xtensa.cc calls a CodeLoop   a8  a9   sums of both rows
//   a3  first row        a6  tables of the word                        a10 a11  their words
//   a4  pairs of rows    a7  second row                                a12 a13  their codes, then their entries

.macro CODE lane, scale, load, from, offset
    extui a12, a10, 8*(\lane), 8
    extui a13, a11, 8*(\lane), 8
    \scale a12, a12, \from
    \scale a13, a13, \from
    \load a12, a12, \offset
    \load a13, a13, \offset
    add a8, a8, a12
    add a9, a9, a13
.endm

.macro CODE_WORDS at
    l32i a10, a3, \at
    l32i a11, a7, \at
  .irp lane, 0, 1, 2, 3
    CODE \lane, addx8, l16si, a6, 2*\lane
  .endr
    addmi a6, a6, 2048
.endm

FUNCTION thimble_sum_code_rows
.Lcode_rows:
    l32i a12, a5, 16
    l32i a6, a5, 0
    add a7, a3, a12
    movi a8, 0
    movi a9, 0
    l32i a12, a5, 8
    loopnez a12, .Lcode_words_done
    CODE_WORDS 0
    CODE_WORDS 4
    addi a3, a3, 8
    addi a7, a7, 8
.Lcode_words_done:
    l32i a12, a5, 12
    l32i a14, a5, 4
    beqz a12, .Lcode_words_even
    CODE_WORDS 0
    addi a3, a3, 4
    addi a7, a7, 4
.Lcode_words_even:
    beqz a14, .Lcode_rows_summed
    l32i a10, a3, 0
    l32i a11, a7, 0
  .irp lane, 0, 1, 2
    CODE \lane, addx8, l16si, a6, 2*\lane
  .endr
    CODE 3, addx4, l32i, a14, 0
.Lcode_rows_summed:
    l32i a12, a5, 20
    s32i a8, a2, 0
    s32i a9, a2, 4
    add a3, a7, a12
    addi a2, a2, 8
    addi a4, a4, -1
    bnez a4, .Lcode_rows
    LEAVE

// ---------------------------------------------------------------------------------------------------------------------
// A row of Q8_0 times activations, which the caller has spread to 16 bits. Halves of a register hold 256 times a number
// of the row: those of a word shifted by 8 bits, and of the word itself, without their lower bytes. So the integer sum is
// 256 times what is wanted, at most 2^27. (qemu 7.2 does not see all loads into the registers m0 to m3: x is in others.)
//
//   a2  sum      a5  blocks left    a10 a11 a12  as for float16     a13 a14  two activations each
//   a3  row      a6  0xff00ff00     a9           of the scale       f0       sum
//   a4  x, 64 bytes and its scale   a7  a8       numbers of the row
//
// A block's numbers begin 2 bytes behind its start, so those of every second block are in whole words.

// Numbers k and k + 2 to a8, k + 1 and k + 3 to a7.
.macro TAKE_FOUR at
    l32i a7, a3, \at
    slli a8, a7, 8
    and a8, a8, a6
    and a7, a7, a6
.endm

.macro FOUR mul, at, x
    TAKE_FOUR \at
    l32i a13, a4, \x
    l32i a14, a4, \x + 4
    \mul\().aa.ll a13, a8
    mula.aa.hl a13, a7
    mula.aa.lh a14, a8
    mula.aa.hh a14, a7
.endm

FUNCTION thimble_dot_q8
    movi a10, -1
    slli a10, a10, 28
    slli a9, a10, 3
    xor a10, a10, a9
    movi a9, -1
    xor a10, a10, a9
    movi a11, 31
    slli a11, a11, 23
    movi a12, 112
    slli a12, a12, 23
    movi a6, 255
    slli a9, a6, 24
    slli a6, a6, 8
    or a6, a6, a9
    lsi f0, a2, 0
.Lq8_block:
    l16si a9, a3, 0
    bbci a3, 1, .Lq8_split_words
    j .Lq8_whole_words
.Lq8_split_words:
    // The first word has the scale in its lower half; the last two numbers are not in a word that may be read.
    TAKE_FOUR 0
    l32i a13, a4, 0
    mul.aa.lh a13, a8
    mula.aa.hh a13, a7
  .irp word, 1, 2, 3, 4, 5, 6, 7
    FOUR mula, 4*\word, 8*\word-4
  .endr
    l16ui a7, a3, 32
    l32i a13, a4, 60
    slli a8, a7, 8
    and a7, a7, a6
    mula.aa.ll a13, a8
    mula.aa.hl a13, a7
    addi a3, a3, 34
    j .Lq8_scale
.Lq8_whole_words:
    addi a3, a3, 2
    FOUR mul, 0, 0
  .irp word, 1, 2, 3, 4, 5, 6, 7
    FOUR mula, 4*\word, 8*\word
  .endr
    addi a3, a3, 32
.Lq8_scale:
    slli a9, a9, 13
    and a9, a9, a10
    bnone a9, a11, .Lq8_subnormal
    bnall a9, a11, .Lq8_finite
    add a9, a9, a12
.Lq8_finite:
    add a9, a9, a12
    wfr f13, a9
    lsi f12, a4, 64
    mul.s f12, f13, f12
    rsr a7, acclo
    srai a7, a7, 8
    float.s f13, a7, 0
    madd.s f0, f13, f12
    addi a4, a4, 68
    addi a5, a5, -1
    bnez a5, .Lq8_block
    ssi f0, a2, 0
    LEAVE
.Lq8_subnormal:
    call0 .Lexpand_subnormal
    j .Lq8_finite

// ---------------------------------------------------------------------------------------------------------------------
// Groups of 16 codes, a byte each, as kernels_xtensa.cc's CodeGroup has them, to numbers, and those times x.
//
//   a2  lanes     a5  groups left           f0 ... f7    lanes     f10 ... f13  numbers
//   a3  groups    a6  four codes            f8           scale     f14 f15      elements of x
//   a4  x         a7 a8 a9 a10  each        f9           offset, or bias
//                 a11  numbers of the codes

.macro NUMBER_offset at
    mul.s f\at, f\at, f8
    add.s f\at, f\at, f9
.endm
.macro NUMBER_bias at
    sub.s f\at, f\at, f9
    mul.s f\at, f\at, f8
.endm

.macro FOUR_NUMBERS kind
    float.s f10, a7, 0
    float.s f11, a8, 0
    float.s f12, a9, 0
    float.s f13, a10, 0
  .irp at, 10, 11, 12, 13
    NUMBER_\kind \at
  .endr
.endm
.macro FOUR_NUMBERS_offset
    FOUR_NUMBERS offset
.endm
.macro FOUR_NUMBERS_bias
    FOUR_NUMBERS bias
.endm
.macro FOUR_NUMBERS_table
    addx4 a7, a7, a11
    addx4 a8, a8, a11
    addx4 a9, a9, a11
    addx4 a10, a10, a11
    lsi f10, a7, 0
    lsi f11, a8, 0
    lsi f12, a9, 0
    lsi f13, a10, 0
.endm

.macro FOUR_CODES kind, word, A, B, C, D
    l32i a6, a3, 8 + 4*\word
    extui a7, a6, 0, 8
    extui a8, a6, 8, 8
    extui a9, a6, 16, 8
    extui a10, a6, 24, 8
    FOUR_NUMBERS_\kind
    lsi f14, a4, 16*\word
    lsi f15, a4, 16*\word + 4
    madd.s f\A, f10, f14
    madd.s f\B, f11, f15
    lsi f14, a4, 16*\word + 8
    lsi f15, a4, 16*\word + 12
    madd.s f\C, f12, f14
    madd.s f\D, f13, f15
.endm

.macro DOT_CODES kind
FUNCTION thimble_dot_codes_\kind
  .irp lane, 0, 1, 2, 3, 4, 5, 6, 7
    lsi f\lane, a2, 4*\lane
  .endr
.Lcode_group\@:
  .ifc \kind, table
    l32i a11, a3, 0
  .else
    lsi f8, a3, 0
    lsi f9, a3, 4
  .endif
    FOUR_CODES \kind, 0, 0, 1, 2, 3
    FOUR_CODES \kind, 1, 4, 5, 6, 7
    FOUR_CODES \kind, 2, 0, 1, 2, 3
    FOUR_CODES \kind, 3, 4, 5, 6, 7
    addi a3, a3, 24
    addi a4, a4, 64
    addi a5, a5, -1
    bnez a5, .Lcode_group\@
  .irp lane, 0, 1, 2, 3, 4, 5, 6, 7
    ssi f\lane, a2, 4*\lane
  .endr
    LEAVE
.endm

    DOT_CODES offset
    DOT_CODES bias
    DOT_CODES table

// ---------------------------------------------------------------------------------------------------------------------
// Sums over rows: a2: sums; a3: rows; a4: factors; a5: how many; a6: bytes from one row to the next.

.macro ADD_ROWS cols, lanes:vararg
FUNCTION thimble_add_weighted_rows\cols
  .irp lane, \lanes
    lsi f\lane, a2, 4*\lane
  .endr
    loopnez a5, .Lsummed\@
    lsi f12, a4, 0
    addi a4, a4, 4
  .irp lane, \lanes
    lsi f13, a3, 4*\lane
    madd.s f\lane, f12, f13
  .endr
    add a3, a3, a6
.Lsummed\@:
  .irp lane, \lanes
    ssi f\lane, a2, 4*\lane
  .endr
    LEAVE
.endm

    ADD_ROWS 12, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    ADD_ROWS 4, 0, 1, 2, 3
    ADD_ROWS 1, 0

// ---------------------------------------------------------------------------------------------------------------------
// CRC-32C of words. a2: the register; a3: words; a4: how many; a5: the tables, of no, one, two and three bytes behind.

.macro TAKE_BYTE crc, at, table
    extui a10, a9, \at, 8
    addx4 a10, a10, \table
    l32i a10, a10, 0
    xor \crc, \crc, a10
.endm

FUNCTION thimble_crc32c_words
    movi a9, 1024
    add a6, a5, a9
    add a7, a6, a9
    add a8, a7, a9
    loopnez a4, .Lcrc_done
    l32i a9, a3, 0
    addi a3, a3, 4
    xor a9, a9, a2
    extui a10, a9, 0, 8
    addx4 a10, a10, a8
    l32i a2, a10, 0
    TAKE_BYTE a2, 8, a7
    TAKE_BYTE a2, 16, a6
    TAKE_BYTE a2, 24, a5
.Lcrc_done:
    LEAVE

// ---------------------------------------------------------------------------------------------------------------------
// Stripes of XXH32. a2: lanes; a3: words; a4: stripes; a5, a6: the primes. To rotate by 13 bits to the left is to take 32
// bits from the 19th on of the lane twice.

FUNCTION thimble_xxh32_stripes
    l32i a7, a2, 0
    l32i a8, a2, 4
    l32i a9, a2, 8
    l32i a10, a2, 12
    ssai 19
    loopnez a4, .Lxxh_done
    l32i a11, a3, 0
    l32i a12, a3, 4
    l32i a13, a3, 8
    l32i a14, a3, 12
    addi a3, a3, 16
  .irp word, 11, 12, 13, 14
    mull a\word, a\word, a6
  .endr
    add a7, a7, a11
    add a8, a8, a12
    add a9, a9, a13
    add a10, a10, a14
  .irp lane, 7, 8, 9, 10
    src a\lane, a\lane, a\lane
  .endr
  .irp lane, 7, 8, 9, 10
    mull a\lane, a\lane, a5
  .endr
.Lxxh_done:
    s32i a7, a2, 0
    s32i a8, a2, 4
    s32i a9, a2, 8
    s32i a10, a2, 12
    LEAVE

// ---------------------------------------------------------------------------------------------------------------------
// For compilers that cannot write the instruction into a function: a2 * a3 + a4.
FUNCTION thimble_madd
    wfr f0, a2
    wfr f1, a3
    wfr f2, a4
    madd.s f2, f0, f1
    rfr a2, f2
    LEAVE
