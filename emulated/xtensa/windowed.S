// The board's compilers use register windows, this program's does not. Here the kernels as they are assembled for
// windows, under the names windowed_..., take the place of those without: each is called through a window of eight,
// where its arguments begin in a10.

.macro CALL_WINDOWED name
    .section .text.\name, "ax"
    .align 4
    .global \name
    .type \name, @function
.Laddress\@:
    .long windowed_\name
\name:
    addi a1, a1, -32
    s32i a0, a1, 0
    s32i a12, a1, 4
    s32i a13, a1, 8
    s32i a14, a1, 12
    s32i a15, a1, 16
    mov a10, a2
    mov a11, a3
    mov a12, a4
    mov a13, a5
    mov a14, a6
    l32r a8, .Laddress\@
    callx8 a8
    mov a2, a10
    l32i a0, a1, 0
    l32i a12, a1, 4
    l32i a13, a1, 8
    l32i a14, a1, 12
    l32i a15, a1, 16
    addi a1, a1, 32
    ret
.endm

.irp type, f32, f16, bf16
    CALL_WINDOWED thimble_dot1_\type
    CALL_WINDOWED thimble_dot3_\type
.endr
    CALL_WINDOWED thimble_lanes6_f16
    CALL_WINDOWED thimble_lanes3_f16
.irp bits, 1, 2, 3, 4, 5, 6, 7
    CALL_WINDOWED thimble_sum_codes\bits
.endr
.irp cols, 1, 4, 12
    CALL_WINDOWED thimble_add_weighted_rows\cols
.endr
    CALL_WINDOWED thimble_sum_code_rows
    CALL_WINDOWED thimble_dot_q8
    CALL_WINDOWED thimble_dot_codes_offset
    CALL_WINDOWED thimble_dot_codes_bias
    CALL_WINDOWED thimble_dot_codes_table
    CALL_WINDOWED thimble_crc32c_words
    CALL_WINDOWED thimble_xxh32_stripes
    CALL_WINDOWED thimble_madd
