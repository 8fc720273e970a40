/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Attaching to the network and to control groups, by links of the kernel.
 */
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <net/if.h>

#include "internal.h"

#ifndef XDP_FLAGS_SKB_MODE
#define XDP_FLAGS_SKB_MODE (1U << 1)
#define XDP_FLAGS_DRV_MODE (1U << 2)
#define XDP_FLAGS_HW_MODE (1U << 3)
#endif
/* Newer than the oldest headers that we build with. */
enum { NETFILTER = 45, TCX_INGRESS = 46, TCX_EGRESS = 47, NETKIT_PRIMARY = 54, NETKIT_PEER = 55 };
enum { F_BEFORE = 1 << 3, F_AFTER = 1 << 4, F_LINK = 1 << 13, F_DEFRAG = 1 };

static int wrong(const struct mb_site *site, const char *option, const char *value,
		 const char *allowed, struct mb_error *err)
{
	return mb_fail(err, EINVAL, "attach program", site->prog->name, "%s is %s, not '%s'",
		       option, allowed, value);
}

static const char *nth_interface(const void *ctx, size_t i)
{
	const struct if_nameindex *all = ctx;

	return all[i].if_index ? all[i].if_name : NULL;
}

/* The number of the interface, or a negative errno, said. */
static int interface(const struct mb_site *site, struct mb_error *err)
{
	unsigned int ifindex = if_nametoindex(site->how.ifname);
	struct if_nameindex *all;
	const char *near;

	if (ifindex)
		return (int)ifindex;
	mb_fail(err, ENODEV, "attach program", site->prog->name,
		"there is no network interface '%s'", site->how.ifname);
	all = if_nameindex();
	near = all ? mb_near(site->how.ifname, nth_interface, all) : NULL;
	if (near)
		mb_error_hint(err, "did you mean '%s'? `ip link` lists them", near);
	if (all)
		if_freenameindex(all);
	return -ENODEV;
}

static int create(struct mb_site *site, int target, int type, struct bpf_link_create_opts *opts,
		  struct mb_hook *hook)
{
	hook->fd = bpf_link_create(site->prog->fd, target, (enum bpf_attach_type)type, opts);
	if (hook->fd >= 0)
		return 0;
	hook->fd = -1;
	return mb_errno();
}

/* ---- XDP ---------------------------------------------------------------------------------------------- */

int mb_attach_xdp(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	const char *mode = site->how.mode;
	int ifindex, rc;

	if (!mode)
		opts.flags = 0;
	else if (strcmp(mode, "generic") == 0)
		opts.flags = XDP_FLAGS_SKB_MODE;
	else if (strcmp(mode, "native") == 0)
		opts.flags = XDP_FLAGS_DRV_MODE;
	else if (strcmp(mode, "offload") == 0)
		opts.flags = XDP_FLAGS_HW_MODE;
	else
		return wrong(site, "mode", mode, "native, generic or offload", err);
	ifindex = interface(site, err);
	if (ifindex < 0)
		return ifindex;
	rc = create(site, ifindex, BPF_XDP, &opts, hook);
	if (!rc)
		return 0;
	mb_attach_failed(site, rc, site->how.ifname, err);
	if (rc == -EBUSY || rc == -EEXIST)
		mb_error_hint(err, "another XDP program is on %s: see `ip link show %s`",
			      site->how.ifname, site->how.ifname);
	return rc;
}

/* ---- tc ----------------------------------------------------------------------------------------------- */

#if MB_LIBBPF_AT_LEAST(1, 3)
/* Which program or link to be put next to: libbpf's options for each kind have the same two fields. */
#define PLACE(site, opts, kind)                                                                    \
	do {                                                                                       \
		const struct mb_attach *how_ = &(site)->how;                                       \
		bool before_ = how_->place == MB_PLACE_FIRST || how_->place == MB_PLACE_BEFORE;    \
                                                                                                   \
		if (how_->place != MB_PLACE_ANY)                                                   \
			(opts).flags |= before_ ? F_BEFORE : F_AFTER;                              \
		if (how_->near_link) {                                                             \
			(opts).flags |= F_LINK;                                                    \
			(opts).kind.relative_fd = (uint32_t)mb_link_fd(how_->near_link);           \
		} else if (how_->near_prog) {                                                      \
			(opts).kind.relative_fd = (uint32_t)how_->near_prog->fd;                   \
		}                                                                                  \
	} while (0)
#endif

#if !MB_LIBBPF_AT_LEAST(1, 6)
static int no_place(const struct mb_site *site, const char *version, struct mb_error *err)
{
	char what[64];

	snprintf(what, sizeof(what), "libbpf %s", version);
	return mb_attach_lacks(site, "order among programs", what, err);
}
#endif

static int tcx(struct mb_site *site, int type, const char *kind, const char *needs,
	       struct mb_hook *hook, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	int ifindex = interface(site, err), rc;
	bool netkit = type == NETKIT_PRIMARY || type == NETKIT_PEER;

	if (ifindex < 0)
		return ifindex;
#if MB_LIBBPF_AT_LEAST(1, 3)
	PLACE(site, opts, tcx); /* netkit's lie at the same place */
#else
	if (site->how.place)
		return no_place(site, "1.3", err);
#endif
	rc = create(site, ifindex, type, &opts, hook);
	if (!rc)
		return 0;
	if ((rc == -EINVAL || rc == -EOPNOTSUPP || rc == -ENOTSUPP) &&
	    !mb_kernel_has_enumerator(netkit ? "BPF_NETKIT_PRIMARY" : "BPF_TCX_INGRESS")) {
		mb_attach_lacks(site, kind, needs, err);
		if (!netkit)
			mb_error_hint(err, "it needs %s; mode = \"clsact\" does without", needs);
		return -EOPNOTSUPP;
	}
	mb_attach_failed(site, rc, site->how.ifname, err);
	if (netkit && (rc == -EINVAL || rc == -EOPNOTSUPP || rc == -EACCES))
		mb_error_hint(err, "it goes to the primary device of a netkit pair (`ip link add "
				   "type netkit`)");
	else if (rc == -ERANGE || rc == -ENOENT)
		mb_error_hint(err, "the program or link to be next to is not attached there");
	return rc;
}

/* "tcx/egress", "tc/egress", "netkit/peer": what comes behind the slash, or NULL. */
static const char *section_direction(const struct mb_site *site)
{
	const char *slash = strchr(bpf_program__section_name(site->prog->bpf), '/');

	return slash && slash[1] ? slash + 1 : NULL;
}

int mb_attach_tc(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	const char *section = bpf_program__section_name(site->prog->bpf);
	const char *mode = site->how.mode;

	if (!mode)
		mode = strncmp(section, "netkit", 6) == 0 ? "netkit" : "tcx";
	if (!site->how.direction)
		site->how.direction = section_direction(site);
	if (!site->how.direction) {
		mb_fail(err, EINVAL, "attach program", site->prog->name,
			"it needs a direction beside the interface");
		mb_error_hint(err, "direction = \"ingress\" or \"egress\"");
		return -EINVAL;
	}
	if (strcmp(mode, "netkit") == 0) {
		bool peer = strcmp(site->how.direction, "peer") == 0;

		if (!peer && strcmp(site->how.direction, "primary") != 0)
			return wrong(site, "direction", site->how.direction,
				     "primary or peer for netkit", err);
		return tcx(site, peer ? NETKIT_PEER : NETKIT_PRIMARY, "netkit",
			   "Linux 6.7 with CONFIG_NETKIT", hook, err);
	}
	if (strcmp(site->how.direction, "ingress") != 0 &&
	    strcmp(site->how.direction, "egress") != 0)
		return wrong(site, "direction", site->how.direction, "ingress or egress", err);
	if (strcmp(mode, "clsact") == 0)
		return mb_attach_clsact(site, hook, err);
	if (strcmp(mode, "tcx") != 0)
		return wrong(site, "mode", mode, "tcx, clsact or netkit", err);
	if (site->how.priority || site->how.handle)
		return mb_fail(err, EINVAL, "attach program", site->prog->name,
			       "priority and handle are for mode = \"clsact\"");
	return tcx(site, strcmp(site->how.direction, "egress") == 0 ? TCX_EGRESS : TCX_INGRESS,
		   "tcx", "Linux 6.6 with CONFIG_NET_XGRESS", hook, err);
}

/* ---- netfilter ---------------------------------------------------------------------------------------- */

int mb_attach_netfilter(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
#if MB_LIBBPF_AT_LEAST(1, 3)
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	static const char *const hooks[] = {
		[NF_INET_PRE_ROUTING] = "prerouting",	[NF_INET_LOCAL_IN] = "input",
		[NF_INET_FORWARD] = "forward",		[NF_INET_LOCAL_OUT] = "output",
		[NF_INET_POST_ROUTING] = "postrouting",
	};
	const char *family = site->how.family;
	uint32_t n = 0;
	int rc;

	if (strcmp(family, "ipv4") != 0 && strcmp(family, "ipv6") != 0)
		return wrong(site, "family", family, "ipv4 or ipv6", err);
	while (n < 5 && strcmp(hooks[n], site->how.hook) != 0)
		n++;
	if (n == 5)
		return wrong(site, "hook", site->how.hook,
			     "prerouting, input, forward, output or postrouting", err);
	opts.netfilter.pf = strcmp(family, "ipv4") == 0 ? NFPROTO_IPV4 : NFPROTO_IPV6;
	opts.netfilter.hooknum = n;
	opts.netfilter.priority = (int32_t)site->how.priority;
	opts.netfilter.flags = site->how.defrag ? F_DEFRAG : 0;
	rc = create(site, 0, NETFILTER, &opts, hook);
	if (!rc)
		return 0;
	mb_attach_failed(site, rc, site->how.hook, err);
	if (rc == -EBUSY || rc == -EEXIST)
		mb_error_hint(err, "another one has priority %d there; each needs its own",
			      (int)site->how.priority);
	else if (rc == -EPERM &&
		 (site->how.priority == NF_IP_PRI_FIRST || site->how.priority == NF_IP_PRI_LAST))
		mb_error_hint(err, "the first and the last priority are the kernel's own");
	return rc;
#else
	(void)hook;
	return mb_attach_lacks(site, "netfilter link", "libbpf 1.3", err);
#endif
}

/* ---- network namespaces ------------------------------------------------------------------------------- */

int mb_attach_netns(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	const char *name = site->how.netns;
	char path[PATH_MAX];
	int ns, rc, n;

	if (strcmp(name, "self") == 0)
		n = snprintf(path, sizeof(path), "/proc/thread-self/ns/net");
	else
		n = snprintf(path, sizeof(path), "%s%s", strchr(name, '/') ? "" : "/run/netns/",
			     name);
	ns = n < (int)sizeof(path) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (ns < 0) {
		rc = n < (int)sizeof(path) ? -errno : -ENAMETOOLONG;
		mb_attach_failed(site, rc, path, err);
		if (rc == -ENOENT)
			mb_error_hint(err, "netns is \"self\", a path, or a name of `ip netns`");
		return rc;
	}
	rc = create(site, ns,
		    site->prog->type == BPF_PROG_TYPE_SK_LOOKUP ? BPF_SK_LOOKUP :
								  BPF_FLOW_DISSECTOR,
		    NULL, hook);
	close(ns);
	if (!rc)
		return 0;
	mb_attach_failed(site, rc, path, err);
	if (rc == -EEXIST || rc == -EBUSY)
		mb_error_hint(err, "a namespace has one flow dissector: detach the other, also one "
				   "of the initial namespace");
	return rc;
}

/* ---- control groups ----------------------------------------------------------------------------------- */

int mb_attach_cgroup(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	enum bpf_attach_type type = bpf_program__expected_attach_type(site->prog->bpf);
	int cgroup = open(site->how.cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (cgroup < 0)
		return mb_attach_failed(site, errno, site->how.cgroup, err);
#if MB_LIBBPF_AT_LEAST(1, 6)
	PLACE(site, opts, cgroup);
#else
	if (site->how.place) {
		close(cgroup);
		return no_place(site, "1.6", err);
	}
#endif
	rc = create(site, cgroup, (int)type, &opts, hook);
	close(cgroup);
	if (!rc)
		return 0;
	if (rc == -EINVAL && site->how.place)
		return mb_attach_lacks(site, "order among a cgroup's programs", "Linux 6.16", err);
	mb_attach_failed(site, rc, site->how.cgroup, err);
	if (rc == -EBADF)
		mb_error_hint(err, "it is no directory of a cgroup v2 file system: see `mount -t "
				   "cgroup2`");
	return rc;
}
