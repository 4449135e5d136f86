/* SPDX-License-Identifier: MIT */
/*
 * The huge page of zeros that all spaces share.  It is made when it is first wanted, counts the
 * entries that map it, and goes when there is none and memory is short.
 */
#include "engine/base/text.h"
#include "engine/space/huge.h"
#include "engine/space/mempolicy.h"

/* It has one user more, if it is there. */
static struct page *get_present(struct engine *e)
{
	struct page *page;

	spin_lock(&e->huge_zero_lock);
	page = e->huge_zero;
	if (page)
		e->huge_zero_users++;
	spin_unlock(&e->huge_zero_lock);
	return page;
}

struct page *huge_zero_get(struct engine *e)
{
	struct page *page = get_present(e), *fresh;

	if (page || e->zero_pfn == NO_PFN)
		return page;
	fresh = task_alloc_page(e, HUGE_ORDER, ALLOC_NORECLAIM);
	if (!fresh)
		return NULL;
	huge_page_clear(e, fresh);
	spin_lock(&e->huge_zero_lock);
	page = e->huge_zero;
	if (!page)
		__atomic_store_n(&e->huge_zero, page = fresh, __ATOMIC_RELAXED);
	e->huge_zero_users++;
	spin_unlock(&e->huge_zero_lock);
	if (page != fresh)
		page_put(e, fresh);
	return page;
}

void huge_zero_put(struct engine *e, u64 n)
{
	if (!n)
		return;
	spin_lock(&e->huge_zero_lock);
	if (e->huge_zero_users < n)
		vmf_panic("the huge zero page has lost more entries than it had");
	e->huge_zero_users -= n;
	spin_unlock(&e->huge_zero_lock);
}

u64 huge_zero_shrink(struct engine *e)
{
	struct page *page = NULL;

	if (!__atomic_load_n(&e->huge_zero, __ATOMIC_RELAXED))
		return 0;
	spin_lock(&e->huge_zero_lock);
	if (!e->huge_zero_users) {
		page = e->huge_zero;
		__atomic_store_n(&e->huge_zero, NULL, __ATOMIC_RELAXED);
	}
	spin_unlock(&e->huge_zero_lock);
	if (!page)
		return 0;
	page_put(e, page);
	return HUGE_PAGES;
}
