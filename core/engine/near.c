/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The nearest word to a misspelt one, for "did you mean". Not a search: it only compares.
 */
#include "internal.h"

#define LONGEST 64

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Letters to insert, delete, replace or swap (optimal string alignment). */
static size_t distance(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);
	size_t rows[3][LONGEST + 1];

	if (na > LONGEST || nb > LONGEST)
		return SIZE_MAX;
	for (size_t j = 0; j <= nb; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= na; i++) {
		size_t *now = rows[i % 3], *one = rows[(i + 2) % 3], *two = rows[(i + 1) % 3];

		now[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t cost = a[i - 1] != b[j - 1];

			now[j] = least(least(one[j] + 1, now[j - 1] + 1), one[j - 1] + cost);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = least(now[j], two[j - 2] + 1);
		}
	}
	return rows[na % 3][nb];
}

const char *mb_near(const char *word, const char *(*nth)(const void *ctx, size_t i),
		    const void *ctx)
{
	size_t best = strlen(word) / 3 + 1, d;
	const char *found = NULL, *w;

	for (size_t i = 0; (w = nth(ctx, i)); i++) {
		if (!*w || strcmp(w, word) == 0)
			continue;
		d = distance(word, w);
		if (d < strlen(w) && (d < best || (d == best && !found))) {
			best = d;
			found = w;
		}
	}
	return found;
}
