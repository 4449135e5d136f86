/* SPDX-License-Identifier: MIT */
/* A small formatter; see text.h. */
#include "engine/base/text.h"
#include "engine/machine.h"

struct out {
	char *buf;
	size_t size, length; /* length may run ahead of size: it counts what did not fit, too */
};

/* One conversion: "%-08llx" is left, zero, width 8, size 8, kind x. */
struct conversion {
	bool left, zero;
	unsigned width;
	size_t size; /* bytes of the argument */
	char kind;
};

static void put(struct out *o, char c)
{
	if (o->length + 1 < o->size)
		o->buf[o->length] = c;
	o->length++;
}

static void put_times(struct out *o, char c, unsigned n)
{
	while (n--)
		put(o, c);
}

static void put_padded(struct out *o, const struct conversion *c, const char *text, size_t n)
{
	unsigned pad = n < c->width ? c->width - n : 0;
	size_t i;

	if (!c->left)
		put_times(o, ' ', pad);
	for (i = 0; i < n; i++)
		put(o, text[i]);
	if (c->left)
		put_times(o, ' ', pad);
}

static void put_string(struct out *o, const struct conversion *c, const char *s)
{
	size_t n = 0;

	if (!s)
		s = "(null)";
	while (s[n])
		n++;
	put_padded(o, c, s, n);
}

static void put_number(struct out *o, const struct conversion *c, u64 v, unsigned base,
		       const char *prefix)
{
	char text[24 + 2];
	size_t at = sizeof(text), prefix_len = 0;
	unsigned digits = 0;

	while (prefix[prefix_len])
		prefix_len++;
	do {
		text[--at] = "0123456789abcdef"[v % base];
		v /= base;
		digits++;
	} while (v);
	if (c->zero && !c->left) {
		for (; prefix_len; prefix_len--, digits++)
			put(o, *prefix++);
		if (c->width > digits)
			put_times(o, '0', c->width - digits);
		put_padded(o, &(struct conversion){ 0 }, text + at, sizeof(text) - at);
		return;
	}
	while (prefix_len)
		text[--at] = prefix[--prefix_len];
	put_padded(o, c, text + at, sizeof(text) - at);
}

static void put_signed(struct out *o, const struct conversion *c, s64 v)
{
	put_number(o, c, v < 0 ? -(u64)v : (u64)v, 10, v < 0 ? "-" : "");
}

/* What follows a '%'; returns the first character after the conversion, or NULL if it is none
 * that we know. */
static const char *parse(const char *f, struct conversion *c)
{
	*c = (struct conversion){ .size = sizeof(int) };
	for (; *f == '-' || *f == '0'; f++)
		*(*f == '-' ? &c->left : &c->zero) = true;
	for (; *f >= '0' && *f <= '9'; f++)
		c->width = c->width * 10 + (*f - '0');
	for (; *f == 'l' || *f == 'z'; f++)
		c->size = sizeof(long);
	c->kind = *f;
	switch (c->kind) {
	case 's':
	case 'c':
	case 'd':
	case 'i':
	case 'u':
	case 'x':
	case 'p':
	case '%':
		return f + 1;
	}
	return NULL;
}

size_t text_vformat(char *buf, size_t size, const char *format, va_list args)
{
	struct out o = { buf, size, 0 };
	struct conversion c;
	const char *after;
	char letter;

	while (*format) {
		after = *format == '%' ? parse(format + 1, &c) : NULL;
		if (!after) {
			put(&o, *format++);
			continue;
		}
		format = after;
		switch (c.kind) {
		case 's':
			put_string(&o, &c, va_arg(args, const char *));
			break;
		case 'c':
			letter = va_arg(args, int);
			put_padded(&o, &c, &letter, 1);
			break;
		case 'p':
			put_number(&o, &c, (uintptr_t)va_arg(args, void *), 16, "0x");
			break;
		case '%':
			put(&o, '%');
			break;
		case 'd':
		case 'i':
			put_signed(&o, &c,
				   c.size > sizeof(int) ? va_arg(args, long) : va_arg(args, int));
			break;
		default:
			put_number(&o, &c,
				   c.size > sizeof(int) ? va_arg(args, unsigned long)
							: va_arg(args, unsigned),
				   c.kind == 'x' ? 16 : 10, "");
		}
	}
	if (size)
		buf[o.length < size ? o.length : size - 1] = '\0';
	return o.length;
}

size_t text_format(char *buf, size_t size, const char *format, ...)
{
	va_list args;
	size_t n;

	va_start(args, format);
	n = text_vformat(buf, size, format, args);
	va_end(args);
	return n;
}

void vmf_message(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	text_vformat(text, sizeof(text), format, args);
	va_end(args);
	machine_message(text);
}

_Noreturn void vmf_panic(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	text_vformat(text, sizeof(text), format, args);
	va_end(args);
	machine_panic(text);
}
