/* Instructions that say to the counter of count_plugin.c where a call of the model begins and ends; they do nothing. */
#ifndef SCTOOL_MARKS_H
#define SCTOOL_MARKS_H

#define MARK_BEGIN 0xaa1a03fau /* mov x26, x26 */
#define MARK_END 0xaa1b03fbu   /* mov x27, x27 */

#if defined(__aarch64__)
#define PASS_MARK_BEGIN() __asm__ volatile("mov x26, x26" ::: "memory")
#define PASS_MARK_END() __asm__ volatile("mov x27, x27" ::: "memory")
#else
#define PASS_MARK_BEGIN() ((void)0)
#define PASS_MARK_END() ((void)0)
#endif

#endif
