/* What a runner tells of its own process: the clock, the peak of its memory, the cores that it really had. C and C++. */
#ifndef SCTOOL_PROCESS_H
#define SCTOOL_PROCESS_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The value of `key` in /proc/self/status, in KiB; -1: unknown. */
static long status_kib(const char *key) {
  char line[256];
  long value = -1;
  FILE *file = fopen("/proc/self/status", "r");
  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, key, strlen(key))) value = strtol(line + strlen(key), NULL, 10);
  if (file) fclose(file);
  return value;
}

/* Prints what every thread of this process may run on, as the kernel says it. */
static void print_affinity(void) {
  DIR *tasks = opendir("/proc/self/task");
  struct dirent *task;
  int printed = 0;
  printf("\"affinity\":[");
  while (tasks && (task = readdir(tasks))) {
    char path[320], line[512];
    if (task->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
      if (!strncmp(line, "Cpus_allowed_list:", 18)) {
        char *text = line + 18;
        text += strspn(text, " \t");
        text[strcspn(text, "\n")] = 0;
        if (strspn(text, "0123456789,-") == strlen(text)) printf("%s\"%s\"", printed++ ? "," : "", text);
      }
    if (file) fclose(file);
  }
  if (tasks) closedir(tasks);
  printf("]");
}

static void print_numbers(const char *name, const int64_t *values, long count) {
  printf("\"%s\":[", name);
  for (long i = 0; i < count; i++) printf("%s%lld", i ? "," : "", (long long)values[i]);
  printf("]");
}

#endif
