/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory of maps: mapping a fd into a region, arrays made with BPF_F_MMAPABLE, freezing. What
 * lies in it is the plan's to say.
 */
#include "engine/hold.h"
#include "internal.h"

static size_t page_round(size_t n)
{
	return mb_round_up(n, (size_t)sysconf(_SC_PAGESIZE));
}

static void unmap(struct mb_region *region)
{
	munmap(region->base, page_round(region->len));
}

int mb_region_map(struct mb_region *region, int fd, size_t len, bool write)
{
	void *at = mmap(NULL, page_round(len), write ? PROT_READ | PROT_WRITE : PROT_READ,
			MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	region->base = at;
	region->len = len;
	region->drop = unmap;
	region->flags = write ? MB_REGION_WRITABLE : 0;
	return 0;
}

/* ---- arrays --------------------------------------------------------------------------------------- */

/* The map knows its region without holding it, so that the mapping goes with the last view. */
static void forget(struct mb_region *region)
{
	struct mb_map *map = region->owner;

	if (map && map->memory == region)
		map->memory = NULL;
	unmap(region);
}

void mb_map_end_memory(struct mb_map *map)
{
	if (!map->memory)
		return;
	map->memory->owner = NULL;
	mb_region_end(map->memory, "its map is closed");
	map->memory = NULL;
}

static int refuse(struct mb_map *map, struct mb_error *err)
{
	if (map->info.type == MB_TYPE_ARENA) {
		mb_fail(err, EOPNOTSUPP, "map memory of", map->name,
			"an arena's pages come and go with BPF programs, and touching one that "
			"is not there ends the process");
		mb_error_hint(err, "share data by a global variable or an array map");
		return -EOPNOTSUPP;
	}
	mb_fail(err, EINVAL, "map memory of", map->name, "it was not made with BPF_F_MMAPABLE");
	if (map->info.type == BPF_MAP_TYPE_ARRAY)
		mb_error_hint(err, "in C: __uint(map_flags, BPF_F_MMAPABLE); (Linux 5.5)");
	else
		mb_error_hint(err, "only arrays can be, and this is a %s",
			      mb_map_type_name(map->info.type));
	return -EINVAL;
}

/* A fd without the right to write cannot be mapped at all: read the entries by system calls. */
static int copy_entries(struct mb_map *map, struct mb_region *region, size_t stride,
			struct mb_error *err)
{
	for (uint32_t i = 0; i < map->info.max_entries; i++)
		if (bpf_map_lookup_elem(map->fd, &i, region->base + i * stride) != 0)
			return mb_fail(err, errno, "read map", map->name, "%s",
				       mb_error_text(errno));
	return 0;
}

static int map_entries(struct mb_map *map, size_t stride, struct mb_region **out,
		       struct mb_error *err)
{
	size_t len = stride * map->info.max_entries;
	struct mb_region *r;
	char name[64];
	int rc;

	snprintf(name, sizeof(name), "memory of map '%.40s'", map->name);
	r = mb_region_bytes(0, 0, name);
	rc = r ? mb_region_map(r, map->fd, len, true) : -ENOMEM;
	if (rc == -EACCES || rc == -EPERM) /* read-only for programs, or frozen */
		rc = mb_region_map(r, map->fd, len, false);
	if (rc == -EINVAL) {
		mb_region_unref(r);
		snprintf(name, sizeof(name), "copy of map '%.40s'", map->name);
		r = mb_region_bytes(len, 0, name);
		rc = r ? copy_entries(map, r, stride, err) : -ENOMEM;
		if (!rc)
			*out = r;
		else
			mb_region_unref(r);
		return rc == -ENOMEM ?
			       mb_fail(err, ENOMEM, "map memory of", map->name, "out of memory") :
			       rc;
	}
	if (rc) {
		mb_region_unref(r);
		return mb_fail(err, rc, "map memory of", map->name, "%s", mb_error_text(-rc));
	}
	r->owner = map;
	r->fix = map->info.map_flags & BPF_F_RDONLY_PROG ?
			 "programs may only read it (BPF_F_RDONLY_PROG): write by m[key] = value" :
			 "the map is frozen";
	r->drop = forget;
	map->memory = r;
	*out = r;
	return 0;
}

int mb_map_memory(struct mb_map *map, struct mb_view *out, struct mb_error *err)
{
	int rc = mb_map_check(map, "map memory of", err);
	const struct mb_plan *plan;
	struct mb_region *region = NULL;
	uint32_t stride;

	if (rc)
		return rc;
	if (map->info.type != BPF_MAP_TYPE_ARRAY || !(map->info.map_flags & BPF_F_MMAPABLE))
		return refuse(map, err);
	stride = (uint32_t)mb_round_up(map->info.value_size, 8);
	rc = mb_plan_array(map->value, stride, map->info.max_entries, &plan, err);
	if (rc)
		return rc;
	if (map->memory)
		region = mb_region_ref(map->memory);
	else if ((rc = map_entries(map, stride, &region, err)) != 0)
		return rc;
	rc = mb_view_init(out, region, 0, plan, err);
	if (rc)
		mb_region_unref(region);
	return rc;
}

/* Only the fd's text in /proc says it. */
bool mb_map_is_frozen(const struct mb_map *map)
{
	char path[48], line[128];
	bool frozen = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", map->fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		frozen |= strncmp(line, "frozen:\t1", 9) == 0;
	if (f)
		fclose(f);
	return frozen;
}

int mb_map_freeze(struct mb_map *map, struct mb_error *err)
{
	int rc = mb_map_check(map, "freeze map", err), code;

	if (!rc)
		rc = mb_refuse("freeze map", map->name, err);
	if (rc)
		return rc;
	if (bpf_map_freeze(map->fd) == 0)
		return 0;
	code = errno;
	if (mb_map_is_frozen(map)) /* the kernel says EPERM or EBUSY */
		return mb_fail(err, EBUSY, "freeze map", map->name, "it is frozen already");
	if (code != EBUSY)
		return mb_fail(err, code, "freeze map", map->name, "%s", mb_error_text(code));
	if (map->memory && map->memory->flags & MB_REGION_WRITABLE) {
		mb_fail(err, EBUSY, "freeze map", map->name, "a writable view of its memory lives");
		mb_error_hint(err, "let the views of m:mmap() go and collect garbage, then freeze");
	} else {
		mb_fail(err, EBUSY, "freeze map", map->name, "it is mapped for writing elsewhere");
	}
	return -EBUSY;
}
