/* SPDX-License-Identifier: MIT */
#include "engine/kernel/oops.h"

#include "engine/base/text.h"
#include "engine/engine.h"
#include "engine/mmu/error_code.h"
#include "engine/mmu/walk.h"

#define MOST_CALLS 16
#define NULL_PAGE  PAGE_SIZE /* an address below is a pointer that was never set */

static const char *access_of(u32 code)
{
	if (code & PF_INSTR)
		return "instruction fetch";
	return code & PF_WRITE ? "write access" : "read access";
}

static const char *cause_of(u32 code)
{
	if (!(code & PF_PROT))
		return "not-present page";
	if (code & PF_RSVD)
		return "reserved bit violation";
	if (code & PF_PK)
		return "protection keys violation";
	return "permissions violation";
}

/* One line for each level, as far as there are tables. */
static void dump_tables(const struct kernel *kernel, const struct task *current, u64 address)
{
	static const char *const names[] = {
		[LEVEL_PTE] = "PTE", [LEVEL_PMD] = "PMD", [LEVEL_PUD] = "PUD", [LEVEL_P4D] = "PGD"
	};
	const struct zone *z = &kernel->engine->zones[ZONE_TABLE];
	const pte_t *table = current->mm ? current->mm->pgd : kernel->pgd;

	for (enum mmu_level level = LEVEL_P4D; level >= LEVEL_PTE; level--) {
		pte_t entry = pte_read(&table[level_index(level, address)]);
		u64 pfn = pte_pfn(entry);

		vmf_message("%s %lx", names[level], (unsigned long)entry.v);
		if (!pte_present(entry) || level == LEVEL_PTE || pte_huge(entry))
			return;
		if (pfn < z->start_pfn || pfn >= z->start_pfn + z->nr) {
			vmf_message("%s names no table", names[level]);
			return;
		}
		table = (const pte_t *)((const char *)z->direct_map +
					((pfn - z->start_pfn) << PAGE_SHIFT));
	}
}

static void dump_registers(const struct pt_regs *regs)
{
	const u64 *r = regs->reg;

	vmf_message("RIP: %04x:%016lx EFLAGS: %08lx", regs->cs, (unsigned long)regs->ip,
		    (unsigned long)regs->flags);
#define ROW(a, ra, b, rb, c, rc)                                                                   \
	vmf_message(a ": %016lx " b ": %016lx " c ": %016lx", (unsigned long)r[ra],                \
		    (unsigned long)r[rb], (unsigned long)r[rc])
	ROW("RAX", REG_AX, "RBX", REG_BX, "RCX", REG_CX);
	ROW("RDX", REG_DX, "RSI", REG_SI, "RDI", REG_DI);
	ROW("RBP", REG_BP, "RSP", REG_SP, "R08", REG_R8);
	ROW("R09", REG_R9, "R10", REG_R10, "R11", REG_R11);
	ROW("R12", REG_R12, "R13", REG_R13, "R14", REG_R14);
#undef ROW
	vmf_message("R15: %016lx", (unsigned long)r[REG_R15]);
}

static void dump_calls(struct kernel *kernel, void *cpu, const struct pt_regs *regs)
{
	u64 ips[MOST_CALLS];
	unsigned n;

	if (!kernel->ops->stack_trace)
		return;
	n = kernel->ops->stack_trace(cpu, regs, ips, MOST_CALLS);
	vmf_message("Call Trace:");
	for (unsigned i = 0; i < n; i++)
		vmf_message(" %016lx", (unsigned long)ips[i]);
}

/* Registers and calls, then the end of the task, or of all. */
static void end(struct kernel *kernel, struct task *current, void *cpu, const struct pt_regs *regs)
{
	unsigned nr = atomic_fetch_add(&kernel->oopses, 1) + 1;

	vmf_message("Oops #%u: pid %d, %s", nr, current->pid, current->name);
	dump_registers(regs);
	dump_calls(kernel, cpu, regs);
	if (current->in_interrupt)
		vmf_panic("Fatal exception in interrupt");
	if (kernel->panic_on_oops)
		vmf_panic("Fatal exception");
	if (current->pid == 0)
		vmf_panic("Attempted to kill the idle task!");
	if (current->pid == 1)
		vmf_panic("Attempted to kill init!");
	current->killed = true;
}

void page_fault_oops(struct kernel *kernel, struct task *current, void *cpu,
		     const struct pt_regs *regs, u32 code, u64 address)
{
	if (code & PF_INSTR && address < TASK_END && !(code & PF_USER))
		vmf_message("unable to execute userspace code (SMEP?)");
	if (address < NULL_PAGE)
		vmf_message("BUG: kernel NULL pointer dereference, address: %016lx",
			    (unsigned long)address);
	else
		vmf_message("BUG: unable to handle page fault for address: %016lx",
			    (unsigned long)address);
	vmf_message("#PF: %s %s in %s mode", code & PF_USER ? "user" : "supervisor",
		    access_of(code), user_mode(regs) ? "user" : "kernel");
	vmf_message("#PF: error_code(0x%04x) - %s", code, cause_of(code));
	dump_tables(kernel, current, address);
	vmf_message("CR2: %016lx", (unsigned long)address);
	end(kernel, current, cpu, regs);
}

void die(struct kernel *kernel, struct task *current, void *cpu, const struct pt_regs *regs,
	 const char *what)
{
	vmf_message("%s", what);
	end(kernel, current, cpu, regs);
}
