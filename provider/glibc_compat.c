/* AWS-LC built against glibc 2.38 or newer (Debian 13) asks for these two names, which the C23 rules gave to strtol and
 * sscanf; glibc 2.34 to 2.37 lack them. Answering here keeps qtls.so loadable there, wherever it was built. AWS-LC reads
 * only decimal and plain hexadecimal numbers, on which the old and the new rules agree.
 *
 * No header: it would redirect the calls below to the very names that are defined here. */

typedef __builtin_va_list arguments;
extern long strtol(const char *text, char **end, int base);
extern int vsscanf(const char *text, const char *format, arguments list);

long __isoc23_strtol(const char *text, char **end, int base) { return strtol(text, end, base); }

int __isoc23_sscanf(const char *text, const char *format, ...) {
  arguments list;
  __builtin_va_start(list, format);
  int converted = vsscanf(text, format, list);
  __builtin_va_end(list);
  return converted;
}
