/* A QEMU plug-in that counts what an aarch64 program does: instructions by class, and misses of two model caches.
 *
 *   qemu-aarch64 -plugin count.so,out=PATH PROGRAM ...     (writes one JSON line to PATH when the program ends)
 *
 * Counted is what lies between two marks, MARK_BEGIN and MARK_END, each time that they are passed: moves of a register to
 * itself, which no compiler writes (see marks.h). Of a program with several threads it is what all of them do meanwhile,
 * which no two runs share: "threads" says how many there were.
 *
 * The caches are those of a Cortex-A76: 64 KiB, 4 ways; 512 KiB, 8 ways; 64-byte lines, least recently used goes. They
 * see data alone, by virtual address, without prefetching: counts that repeat exactly, not a phone's own.
 */
#include <stdio.h>
#include <string.h>

#include "marks.h"
#include "qemu_plugin_api.h"

QEMU_PLUGIN_EXPORT int qemu_plugin_version = 1;

enum Class { LOAD, STORE, BRANCH, INTEGER, VECTOR_FMA, VECTOR_DOT, VECTOR_OTHER, OTHER, CLASSES };
static uint64_t counts[CLASSES];
static char out_path[4096];

enum { MAX_CALLS = 1024, L1_ACCESSES = CLASSES, L1_MISSES, L2_MISSES, FIGURES };
static const char *const names[FIGURES] = {"load",       "store",        "branch", "integer",     "vector_fma",
                                           "vector_dot", "vector_other", "other",  "l1_accesses", "l1_misses",
                                           "l2_misses"};
static uint64_t begin[FIGURES], calls[MAX_CALLS][FIGURES];
static unsigned call_count, threads;

enum { LINE_BITS = 6, MAX_WAYS = 8, MAX_SETS = 1024 };
typedef struct {
  unsigned sets, ways;
  uint64_t lines[MAX_SETS][MAX_WAYS]; /* the most recently used first; line + 1, 0 is empty */
  uint64_t accesses, misses;
} Cache;
static Cache level1 = {.sets = 256, .ways = 4}, level2 = {.sets = 1024, .ways = 8};

/* After the table "A64 instruction set encoding" of the Arm Architecture Reference Manual: bits 28 to 25. */
static enum Class classify(uint32_t word) {
  unsigned group = word >> 25 & 15;
  if ((group & 5) == 4) {
    bool vector = word >> 26 & 1;
    if ((word & 0x3b000000) == 0x18000000) return LOAD;                                    /* literal */
    if ((word & 0x3a000000) == 0x28000000) return word >> 22 & 1 ? LOAD : STORE;           /* pair */
    if ((word & 0xbe000000) == 0x0c000000) return word >> 22 & 1 ? LOAD : STORE;           /* structures */
    if ((word & 0x3f000000) == 0x08000000) return word >> 22 & 1 ? LOAD : STORE;           /* exclusive */
    unsigned operation = word >> 22 & 3;
    return operation == 0 || (vector && operation == 2) ? STORE : LOAD;
  }
  if ((group & 14) == 10) return BRANCH;
  if ((group & 14) == 8 || (group & 7) == 5) return INTEGER;
  if ((group & 7) == 7) {
    if ((word & 0xbf20fc00) == 0x0e20cc00 || (word & 0xbf80b400) == 0x0f801000 || /* fmla, fmls: vector, by element */
        (word & 0xbf60fc00) == 0x0e400c00 || (word & 0xbfc0b400) == 0x0f001000 || /* the same in half precision */
        (word & 0xff000000) == 0x1f000000)                                        /* fmadd and its kin */
      return VECTOR_FMA;
    if ((word & 0x9f20fc00) == 0x0e009400 || (word & 0x9f00f400) == 0x0f00e000) return VECTOR_DOT;
    return VECTOR_OTHER;
  }
  return OTHER;
}

static bool touch(Cache *cache, uint64_t line) {
  uint64_t *set = cache->lines[line % cache->sets];
  unsigned way = 0;
  cache->accesses++;
  while (way < cache->ways - 1 && set[way] != line + 1) way++;
  bool hit = set[way] == line + 1;
  memmove(set + 1, set, way * sizeof *set);
  set[0] = line + 1;
  cache->misses += !hit;
  return hit;
}

static void on_memory(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *unused) {
  (void)cpu, (void)unused;
  uint64_t last = address + (1u << qemu_plugin_mem_size_shift(info)) - 1;
  for (uint64_t line = address >> LINE_BITS; line <= last >> LINE_BITS; line++)
    if (!touch(&level1, line)) touch(&level2, line);
}

static void read_figures(uint64_t *figures) {
  memcpy(figures, counts, sizeof counts);
  figures[L1_ACCESSES] = level1.accesses;
  figures[L1_MISSES] = level1.misses;
  figures[L2_MISSES] = level2.misses;
}

static void on_begin(unsigned cpu, void *unused) {
  (void)cpu, (void)unused;
  read_figures(begin);
}

static void on_end(unsigned cpu, void *unused) {
  (void)cpu, (void)unused;
  uint64_t end[FIGURES];
  if (call_count == MAX_CALLS) return;
  read_figures(end);
  for (int i = 0; i < FIGURES; i++) calls[call_count][i] = end[i] - begin[i];
  call_count++;
}

static void on_thread(qemu_plugin_id_t id, unsigned cpu) {
  (void)id, (void)cpu;
  __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
    struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
    uint32_t word;
    memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
    if (word == MARK_BEGIN) qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_begin, QEMU_PLUGIN_CB_NO_REGS, NULL);
    if (word == MARK_END) qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_end, QEMU_PLUGIN_CB_NO_REGS, NULL);
    qemu_plugin_register_vcpu_insn_exec_inline(instruction, QEMU_PLUGIN_INLINE_ADD_U64, &counts[classify(word)], 1);
    qemu_plugin_register_vcpu_mem_cb(instruction, on_memory, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
  }
}

static void at_end(qemu_plugin_id_t id, void *unused) {
  (void)id, (void)unused;
  FILE *file = fopen(out_path, "w");
  if (!file) return;
  fprintf(file, "{\"schema\":2,\"threads\":%u,\"calls\":[", threads);
  for (unsigned call = 0; call < call_count; call++) {
    fprintf(file, "%s{", call ? "," : "");
    for (int i = 0; i < FIGURES; i++)
      fprintf(file, "%s\"%s\":%llu", i ? "," : "", names[i], (unsigned long long)calls[call][i]);
    fprintf(file, "}");
  }
  fprintf(file, "]}\n");
  fclose(file);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++)
    if (!strncmp(argv[i], "out=", 4)) snprintf(out_path, sizeof out_path, "%s", argv[i] + 4);
  if (!out_path[0]) return -1;
  qemu_plugin_register_vcpu_init_cb(id, on_thread);
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
  qemu_plugin_register_atexit_cb(id, at_end, NULL);
  return 0;
}
