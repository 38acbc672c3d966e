// tests/emulated_cuda/death.h: what a forked child said before it died.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

// Runs `f` in a child process. Returns what it wrote to stderr if it was aborted, and how it ended otherwise. The
// caller has no other threads.
template <class F>
std::string last_words(F&& f) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);  // Catch2's handler would report the child's end as the test's
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    f();
    _exit(0);
  }
  close(ends[1]);
  std::string words;
  char buffer[512];
  for (ssize_t got = 0; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
    words.append(buffer, static_cast<size_t>(got));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) return words;
  // AddressSanitizer ends the process its own way.
  if (words.find("AddressSanitizer") != std::string::npos) return words;
  return "ended with status " + std::to_string(status) + ": " + words;
}
