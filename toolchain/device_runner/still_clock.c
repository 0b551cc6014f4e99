/* A clock that shows no time: each reading is a microsecond after the one before. Preloaded into a program whose
 * instructions are counted, because ONNX Runtime asks the clock after every call and then takes another way: its summary of
 * calls is due a second after the last one, and how much of a program is run by then is the host's load.
 *
 * Counted programs have one thread: the readings need no lock.
 */
#include <stddef.h>
#include <sys/time.h>
#include <time.h>

enum { STEP_NS = 1000, NS = 1000000000, START = 1000000000 };
static long long readings;

int clock_gettime(clockid_t clock, struct timespec *now) {
  (void)clock;
  long long ns = readings++ * STEP_NS;
  now->tv_sec = START + ns / NS;
  now->tv_nsec = ns % NS;
  return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec at;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &at);
  now->tv_sec = at.tv_sec;
  now->tv_usec = at.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (out) *out = at.tv_sec;
  return at.tv_sec;
}
