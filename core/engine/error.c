/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What went wrong: filling an mb_error, and listening to libbpf while a call runs. It does not
 * know what to do about it: that is hint.c.
 */
#include <dlfcn.h>
#include <pthread.h>

#include "internal.h"

static MB_THREAD struct mb_capture *listening;
static void (*listener)(int level, const char *text);

void mb_error_fini(struct mb_error *err)
{
	if (!err)
		return;
	free(err->log);
	mb_error_init(err);
}

const char *mb_error_name(int code)
{
	const char *name = code == ENOTSUPP ? "ENOTSUPP" : strerrorname_np(code);

	return name ? name : "EUNKNOWN";
}

int mb_error_code(const char *name)
{
	/* errno values are small; the kernel's own end at 4095 */
	for (int code = 1; code < 4096; code++)
		if (strcmp(mb_error_name(code), name) == 0)
			return code;
	return 0;
}

const char *mb_error_text(int code)
{
	const char *text = code == ENOTSUPP ? "Not supported by the kernel" : strerrordesc_np(code);

	return text ? text : "Unknown error";
}

/* UTF-8 must not be cut in the middle of a character. */
static void copy_text(char *to, size_t room, const char *from)
{
	size_t n = strnlen(from ? from : "", room);

	if (n >= room) {
		n = room - 1;
		while (n > 0 && ((unsigned char)from[n] & 0xc0) == 0x80)
			n--;
	}
	if (n)
		memcpy(to, from, n);
	to[n] = '\0';
}

int mb_fail(struct mb_error *err, int code, const char *op, const char *subject, const char *fmt,
	    ...)
{
	const char *hint;
	va_list args;

	if (code < 0)
		code = -code;
	if (!code)
		code = EIO;
	if (!err)
		return -code;
	mb_error_fini(err);
	err->code = code;
	copy_text(err->op, sizeof(err->op), op);
	copy_text(err->subject, sizeof(err->subject), subject);
	va_start(args, fmt);
	vsnprintf(err->cause, sizeof(err->cause), fmt, args);
	va_end(args);
	hint = mb_hint_find(op, code, NULL);
	if (hint)
		copy_text(err->hint, sizeof(err->hint), hint);
	return -code;
}

void mb_error_hint(struct mb_error *err, const char *fmt, ...)
{
	va_list args;

	if (!err)
		return;
	va_start(args, fmt);
	vsnprintf(err->hint, sizeof(err->hint), fmt, args);
	va_end(args);
}

void mb_log_listen(void (*fn)(int level, const char *text))
{
	__atomic_store_n(&listener, fn, __ATOMIC_RELEASE);
}

/* A log that cannot grow keeps what it has: losing words is better than failing the failure. */
static void capture_add(struct mb_capture *cap, const char *text, size_t n)
{
	if (cap->len + n + 1 > cap->room) {
		size_t room = cap->room ? cap->room * 2 : 4096;
		char *more;

		while (room < cap->len + n + 1)
			room *= 2;
		more = realloc(cap->text, room);
		if (!more)
			return;
		cap->text = more;
		cap->room = room;
	}
	memcpy(cap->text + cap->len, text, n);
	cap->len += n;
	cap->text[cap->len] = '\0';
}

/* Who had libbpf's words before, and gets those that are not for us; NULL: libbpf's own printer. */
static libbpf_print_fn_t others;

__attribute__((format(__printf__, 2, 0))) static int pass_on(enum libbpf_print_level level,
							     const char *fmt, va_list args)
{
	libbpf_print_fn_t fn = __atomic_load_n(&others, __ATOMIC_ACQUIRE);

	return fn ? fn(level, fmt, args) : 0;
}

#define LOG_BEGINS "-- BEGIN PROG LOAD LOG --" /* a program was taken, and its log is wanted */

/* libbpf calls this from any thread, in the middle of its work: it must return, and quickly. */
__attribute__((format(__printf__, 2, 0))) static int on_print(enum libbpf_print_level level,
							      const char *fmt, va_list args)
{
	void (*hear)(int, const char *) = __atomic_load_n(&listener, __ATOMIC_ACQUIRE);
	struct mb_capture *into = NULL;
	char brief[512], *text = brief;
	va_list again;
	int n;

	if (!listening && !hear)
		return pass_on(level, fmt, args);
	if (level == LIBBPF_DEBUG && listening && listening->externs &&
	    strncmp(fmt, "libbpf: extern ", 15) == 0)
		into = listening->externs;
	if (level == LIBBPF_DEBUG && !hear && !into && !(listening && listening->logs))
		return 0;
	va_copy(again, args);
	n = vsnprintf(brief, sizeof(brief), fmt, args);
	if (n >= (int)sizeof(brief)) {
		text = NULL;
		if (vasprintf(&text, fmt, again) < 0)
			text = NULL;
	}
	va_end(again);
	if (text && n > 0) {
		if (hear)
			hear((int)level, text);
		if (into)
			capture_add(into, text, (size_t)n);
		else if (listening && level != LIBBPF_DEBUG)
			capture_add(listening, text, (size_t)n);
		else if (listening && listening->logs && strstr(text, LOG_BEGINS))
			capture_add(listening->logs, text, (size_t)n);
	}
	if (text != brief)
		free(text);
	return 0;
}

static const void *module_of(const void *address)
{
	Dl_info info;

	return dladdr(address, &info) ? info.dli_fbase : NULL;
}

/* A shared libbpf has one printer for all who use it in this process: the host, another copy of us. */
static void listen_once(void)
{
	libbpf_print_fn_t before = libbpf_set_print(on_print);

	if (before && module_of((const void *)before) != module_of((const void *)libbpf_set_print))
		__atomic_store_n(&others, before, __ATOMIC_RELEASE);
}

void mb_capture_begin(struct mb_capture *cap)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, listen_once);
	memset(cap, 0, sizeof(*cap));
	cap->outer = listening;
	listening = cap;
}

void mb_capture_end(struct mb_capture *cap, struct mb_error *err)
{
	listening = cap->outer;
	if (err && err->code && cap->text) {
		const char *hint = mb_hint_find(err->op, err->code, cap->text);

		free(err->log);
		err->log = cap->text;
		if (hint && !err->hint[0])
			copy_text(err->hint, sizeof(err->hint), hint);
	} else {
		free(cap->text);
	}
	cap->text = NULL;
}
