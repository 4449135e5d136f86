/* SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <stdio.h>

#include "tools/oracle.h"

static void set(json_t *object, const char *key, u64 value)
{
	json_object_set_new(object, key, json_integer(value));
}

static const char *errno_key(unsigned err)
{
	return err ? errno_name(err) : "ok";
}

static json_t *words(const struct coverage *c, enum call call, enum arg_kind kind)
{
	json_t *o = json_object();

	for (unsigned k = 0; arg_words(kind)[k].name; k++) {
		json_t *word = json_object();

		for (unsigned err = 0; err < NR_ERRNOS; err++)
			if (c->words[call][kind][k][err])
				set(word, errno_key(err), c->words[call][kind][k][err]);
		json_object_set_new(o, arg_words(kind)[k].name, word);
	}
	return o;
}

static json_t *call_object(const struct coverage *c, enum call call)
{
	static const char *const kinds[NR_ARG_KINDS] = {
		[ARG_PROT] = "protection",   [ARG_MAP_FLAGS] = "flags",
		[ARG_REMAP_FLAGS] = "flags", [ARG_ADVICE] = "advice",
		[ARG_LOCK_FLAGS] = "flags",  [ARG_LOCKALL_FLAGS] = "flags",
		[ARG_SYNC_FLAGS] = "flags",  [ARG_FILE] = "file",
		[ARG_LIMIT] = "limit",	     [ARG_POLICY] = "policy",
		[ARG_BIND_FLAGS] = "flags",  [ARG_POLICY_FLAGS] = "flags",
	};
	json_t *o = json_object(), *results = json_object();

	set(o, "operations", c->calls[call]);
	for (unsigned err = 0; err < NR_ERRNOS; err++)
		if (c->errnos[call][err])
			set(results, errno_key(err), c->errnos[call][err]);
	json_object_set_new(o, "results", results);
	for (unsigned i = 0; i < NR_ARGS; i++) {
		enum arg_kind kind = call_args(call)[i];

		if (arg_words(kind))
			json_object_set_new(o, kinds[kind], words(c, call, kind));
	}
	return o;
}

static json_t *calls(const struct coverage *c)
{
	json_t *o = json_object();

	for (unsigned call = 0; call < NR_CALLS; call++)
		if (c->calls[call])
			json_object_set_new(o, call_name(call), call_object(c, call));
	return o;
}

static json_t *signals(const struct coverage *c)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < NR_SIGNALS && c->signals[i].count; i++) {
		json_t *o = json_object();

		set(o, "signal", c->signals[i].signal.number);
		json_object_set_new(o, "code", json_integer(c->signals[i].signal.code));
		set(o, "trap", c->signals[i].signal.trap);
		set(o, "error_code", c->signals[i].signal.error);
		set(o, "operations", c->signals[i].count);
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *rows(const struct session_result *r)
{
	json_t *o = json_object(), *reached = json_object(), *missed = json_array();
	json_t *exempt = json_object();

	for (unsigned i = 0; i < nr_rows; i++) {
		const char *why = row_exempt(i, &r->support);

		if (r->coverage.rows[i])
			set(reached, row_name(i), r->coverage.rows[i]);
		else if (why)
			json_object_set_new(exempt, row_name(i), json_string(why));
		else
			json_array_append_new(missed, json_string(row_name(i)));
	}
	json_object_set_new(o, "reached", reached);
	json_object_set_new(o, "not_reached", missed);
	json_object_set_new(o, "not_here", exempt);
	return o;
}

static json_t *masks_array(const struct session_result *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < nr_masks; i++) {
		json_t *o = json_object();

		json_object_set_new(o, "name", json_string(masks[i].name));
		json_object_set_new(o, "why", json_string(masks[i].why));
		set(o, "operations", r->masked[i]);
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *mismatch(const struct session_result *r)
{
	json_t *o;

	if (r->end != SESSION_MISMATCH)
		return json_null();
	o = json_object();
	set(o, "sequence", r->number);
	json_object_set_new(o, "what", json_string(r->what));
	json_object_set_new(o, "test", json_string(r->text));
	return o;
}

json_t *oracle_json(const struct session_options *options, const struct session_result *r)
{
	u64 operations = r->coverage.operations + r->coverage.skipped;
	json_t *o = json_object();
	char kernel[32];

	snprintf(kernel, sizeof(kernel), "%u.%u", r->support.major, r->support.minor);
	json_object_set_new(o, "mismatch", mismatch(r));
	json_object_set_new(o, "kernel", json_string(kernel));
	set(o, "operations", operations);
	set(o, "sequences", r->sequences);
	set(o, "undone_sequences", r->undone);
	set(o, "unsteady_sequences", r->unsteady);
	if (!options->replayed)
		json_object_set_new(o, "seed", json_integer(options->seed));
	json_object_set_new(o, "seconds", json_real(r->seconds));
	json_object_set_new(o, "operations_per_second", json_real(operations / r->seconds));
	set(o, "kernel_ns", operations ? r->real_ns / operations : 0);
	set(o, "engine_ns", operations ? r->engine_ns / operations : 0);
	json_object_set_new(o, "calls", calls(&r->coverage));
	json_object_set_new(o, "signals", signals(&r->coverage));
	json_object_set_new(o, "rows", rows(r));
	json_object_set_new(o, "masks", masks_array(r));
	return o;
}
