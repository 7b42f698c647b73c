// Reset and exceptions of qemu's de233_fpu. The compiler uses no register windows; windowed.S does.
    .section .reset, "ax"  // where the core starts, whatever the program's entry is
    j .Lreset
    .balign 4
.Lentry:
    .long _start
.Lreset:
    l32r a2, .Lentry
    jx a2

    .section .exceptions, "ax"  // 0x300 after the vectors' base: kernel, user, then double exceptions
    .balign 64
    j .Lexception
    .balign 64
    j .Lexception
    .balign 64
    nop
    .balign 64
    j .Lexception
    .balign 64
.Lreport:
    .long thimble_report_exception
.Lreport_stack:
    .long __stack_top
.Lexception:
    rsr a2, exccause
    rsr a3, epc1
    rsr a4, excvaddr
    l32r a1, .Lreport_stack
    l32r a8, .Lreport
    callx0 a8

    .balign 4
.Lstack:
    .long __stack_top
.Lvectors:
    .long __vectors
.Lmain:
    .long thimble_start
    .global _start
    .balign 4
_start:
    movi a2, 1
    wsr a2, windowstart
    movi a2, 0
    wsr a2, windowbase
    rsync
    l32r a1, .Lstack
    l32r a2, .Lvectors
    wsr a2, vecbase
    movi a2, 255
    wsr a2, cpenable
    movi a2, 1  // windows may be used; user mode; no interrupt is masked
    slli a2, a2, 18
    addi a2, a2, 0x20
    wsr a2, ps
    rsync
    l32r a8, .Lmain
    callx0 a8

    .text
    .balign 4
    .global thimble_simcall
    .type thimble_simcall, @function
thimble_simcall:  // number and operands in a2 to a5; the result in a2
    .byte 0x00, 0x51, 0x00
    ret

    .global thimble_ccount
    .type thimble_ccount, @function
    .balign 4
thimble_ccount:
    rsr a2, ccount
    ret
