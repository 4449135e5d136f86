/* SPDX-License-Identifier: MIT */
/* The soft machine under the contract test; contract_machine.h has the promises. */
#include "engine/base/text.h"
#include "machine/soft/soft.h"
#include "stores/memory.h"
#include "tests/contract/contract_machine.h"

#define SPACE_LOW  0x10000ULL
#define SPACE_HIGH 0x7ffffffff000ULL
#define SLOTS	   65536

/* CONTRACT_BARE: a fault is an answer, not something to resolve. */
static struct fault_result refuse(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	(void)cpu;
	(void)cr2;
	(void)code;
	return (struct fault_result){ .reason = FAULT_BUS };
}

const char *contract_missing(void)
{
	return NULL;
}

int contract_create(struct contract *c, enum contract_mode mode, u64 pages, u64 frames)
{
	struct engine_config config = engine_default_config(frames);
	struct soft_options o = { .table_frames = 256,
				  .user_frames = frames,
				  .nr_cpus = CONTRACT_THREADS,
				  .checked = true,
				  .config = &config,
				  .trap = mode == CONTRACT_BARE ? refuse : NULL };
	struct soft_machine *m;
	s64 base;
	int err = memory_store_create(&soft_host_memory, COMPRESS_LZ4, SLOTS, 0, CONTRACT_THREADS,
				      &o.store);

	if (err)
		return err;
	err = soft_create(&o, &m);
	if (err)
		return err;
	*c = (struct contract){ .engine = &m->engine, .pages = pages, .machine = o.store };
	err = mm_create(c->engine, SPACE_LOW, SPACE_HIGH, &c->mm);
	if (err)
		return err;
	for (unsigned i = 0; i < CONTRACT_THREADS; i++)
		soft_load_mm(&m->cpus[i], c->mm);
	base = vm_map(c->mm, 0, pages << PAGE_SHIFT, VM_READ | VM_WRITE, 0, 0);
	c->base = base;
	return base < 0 ? base : 0;
}

void contract_destroy(struct contract *c)
{
	struct soft_machine *m = soft_of(c->engine);

	soft_check(m);
	for (unsigned i = 0; i < CONTRACT_THREADS; i++)
		soft_load_mm(&m->cpus[i], NULL);
	mm_destroy(c->mm);
	engine_check(c->engine);
	soft_destroy(m);
	memory_store_destroy(c->machine);
}

static struct soft_cpu *cpu_of(struct contract *c, unsigned thread)
{
	return &soft_of(c->engine)->cpus[thread];
}

u8 program_read(struct contract *c, unsigned thread, u64 va)
{
	u8 byte;

	if (soft_read_byte(cpu_of(c, thread), va, &byte) != FAULT_OK)
		vmf_panic("the program cannot read %lx", (unsigned long)va);
	return byte;
}

void program_write(struct contract *c, unsigned thread, u64 va, u8 byte)
{
	if (soft_write_byte(cpu_of(c, thread), va, byte) != FAULT_OK)
		vmf_panic("the program cannot write %lx", (unsigned long)va);
}

/* On every CPU: one that still had a translation would go through. */
bool program_present(struct contract *c, u64 va)
{
	bool present = false;
	u8 byte;

	for (unsigned i = 0; i < CONTRACT_THREADS; i++)
		present |= soft_read_byte(cpu_of(c, i), va, &byte) == FAULT_OK;
	return present;
}

bool program_can_write(struct contract *c, unsigned thread, u64 va, u8 byte)
{
	return soft_write_byte(cpu_of(c, thread), va, byte) == FAULT_OK;
}

void program_unmap(struct contract *c, u64 va, unsigned n)
{
	(void)c;
	(void)va;
	(void)n;
}

void program_loses_page(struct contract *c, u64 va, pte_t *ptep)
{
	pte_store(ptep, (pte_t){ 0 });
	soft_mmu_ops.flush(c->mm, va, va + PAGE_SIZE);
}

bool program_gains_page(struct contract *c, u64 va)
{
	(void)c;
	(void)va;
	return false;
}
