/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The programs as clang compiled them, inside the loader. */
	.section .rodata
	.balign 8
	.global kit_object, kit_object_end
kit_object:
	.incbin "kit.bpf.o"
kit_object_end:
	.section .note.GNU-stack, "", @progbits
