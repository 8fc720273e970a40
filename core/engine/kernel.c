/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Holds what is known of the running kernel, for this thread. Runtimes on different threads share
 * nothing, so that no lock is needed.
 */
#include "engine/kernel.h"
#include "engine/kmem.h"
#include "internal.h"

struct mb_kernel {
	uint32_t refs;
	struct mb_ksyms *syms;
	struct mb_kbtf *types;
	struct mb_kconfig *config;
	struct mb_kmem *memory;
};

static MB_THREAD struct mb_kernel *mine; /* not counted: its last holder clears it */

int mb_kernel_get(struct mb_kernel **out, struct mb_error *err)
{
	struct mb_kernel *k = mine;
	int rc = 0;

	if (!k) {
		k = calloc(1, sizeof(*k));
		if (!k)
			return mb_fail(err, ENOMEM, "use", "the kernel", "out of memory");
		mine = k;
		k->refs = 1;
		rc = mb_ksyms_new(&k->syms, err);
		if (!rc)
			rc = mb_kbtf_new(&k->types, err);
		if (rc) {
			mb_kernel_unref(k);
			return rc;
		}
	} else {
		k->refs++;
	}
	*out = k;
	return 0;
}

void mb_kernel_unref(struct mb_kernel *kernel)
{
	if (!kernel || --kernel->refs)
		return;
	if (mine == kernel)
		mine = NULL;
	mb_kmem_free(kernel->memory);
	mb_kconfig_free(kernel->config);
	mb_kbtf_free(kernel->types);
	mb_ksyms_free(kernel->syms);
	free(kernel);
}

struct mb_ksyms *mb_kernel_syms(struct mb_kernel *kernel)
{
	return kernel->syms;
}

struct mb_kbtf *mb_kernel_types(struct mb_kernel *kernel)
{
	return kernel->types;
}

int mb_kernel_config(struct mb_kernel *kernel, const struct mb_kconfig **out, struct mb_error *err)
{
	int rc = kernel->config ? 0 : mb_kconfig_new(&kernel->config, err);

	if (!rc)
		*out = kernel->config;
	return rc;
}

int mb_kernel_memory(struct mb_kernel *kernel, struct mb_kmem **out, struct mb_error *err)
{
	int rc = kernel->memory ? 0 : mb_kmem_new(MB_KMEM_BEST, &kernel->memory, err);

	if (!rc)
		*out = kernel->memory;
	return rc;
}

void mb_kernel_release_memory(struct mb_kernel *kernel)
{
	mb_kmem_free(kernel->memory);
	kernel->memory = NULL;
}
