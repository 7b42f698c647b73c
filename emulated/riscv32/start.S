// Reset and exceptions of qemu's virt machine, in machine mode.
    .section .start, "ax"
    .global _start
_start:
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    la sp, __stack_top
    la t0, trap
    csrw mtvec, t0
    li t0, 1 << 13  // the floating-point unit is on
    csrs mstatus, t0
    call thimble_start

    .balign 4
trap:
    csrr a0, mcause
    csrr a1, mepc
    csrr a2, mtval
    la sp, __stack_top
    call thimble_report_exception

    .text
    .global thimble_semihost
    .type thimble_semihost, @function
    .balign 16
    .option norvc
thimble_semihost:  // operation in a0, its arguments' address in a1; the result in a0
    slli x0, x0, 0x1f
    ebreak
    srai x0, x0, 7
    ret
