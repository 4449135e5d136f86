/* SPDX-License-Identifier: MIT */
/*
 * A guest for QEMU, by the multiboot protocol: fills memory from 16 MiB on with a word that
 * depends on its place, looks at it twice, changes it, looks again, and says so on the debug
 * console (port 0xe9). Ends QEMU through isa-debug-exit: status 33 if all was right, else 35.
 */
	.set	FIRST, 16 << 20
	.set	LAST, FIRST + (MEGABYTES << 20)

	.text
	.long	0x1badb002, 0, -0x1badb002
	.globl	_start
_start:
	mov	$stack_end, %esp
	mov	$started, %esi
	call	say

	xor	%edi, %edi
	call	write_all
	call	check_all
	call	check_all
	mov	$0x5a5a1234, %edi
	call	write_all
	call	check_all

	mov	$right, %esi
	call	say
	mov	$0x10, %eax
	jmp	end

/* Word at each place: place * 2654435761 ^ edi, and in half of each page the page's number. */
word:
	mov	%ebx, %eax
	test	$0x800, %ebx
	jnz	1f
	imul	$0x9e3779b1, %eax, %eax
	xor	%edi, %eax
	ret
1:	shr	$12, %eax
	xor	%edi, %eax
	ret

write_all:
	mov	$FIRST, %ebx
1:	call	word
	mov	%eax, (%ebx)
	add	$4, %ebx
	cmp	$LAST, %ebx
	jb	1b
	ret

check_all:
	mov	$FIRST, %ebx
1:	call	word
	cmp	%eax, (%ebx)
	jne	wrong
	add	$4, %ebx
	cmp	$LAST, %ebx
	jb	1b
	mov	$checked, %esi
	jmp	say

wrong:
	mov	$not_right, %esi
	call	say
	mov	$0x11, %eax
end:
	out	%al, $0xf4
1:	hlt
	jmp	1b

say:
	lodsb
	test	%al, %al
	jz	1f
	out	%al, $0xe9
	jmp	say
1:	ret

started:	.asciz "the guest runs\n"
checked:	.asciz "its memory was looked at\n"
right:		.asciz "its memory is right\n"
not_right:	.asciz "its memory is WRONG\n"

	.bss
	.balign	16
	.skip	4096
stack_end:
