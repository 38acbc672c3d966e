// core/cli/command_line.h: how a subcommand declares its arguments, and how `shoal` reads its command line.
//
// CLI11 does the work, in command_line.cpp alone: its header takes seconds to compile. Values are written when the
// command line is read, just before the action runs, so they must live until then.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace CLI {
class App;
}

namespace shoal {

enum class Need { kOptional, kRequired };

// The values that a number may take, both ends included; {}: all of its type.
template <class Number>
struct Range {
  Number low = std::numeric_limits<Number>::lowest();
  Number high = std::numeric_limits<Number>::max();
};

// A subcommand being declared: a handle, valid as long as the CommandLine.
//
// The value that a variable has when it is declared is the default that the help shows, unless it is empty or outside
// the range.
class Command {
 public:
  // A command with subcommands runs one of them, and has no action of its own. The footer stands last in the help.
  Command subcommand(const std::string& name, const std::string& description, const std::string& footer = "");

  // Words without a `--name`; at least one unless kOptional.
  void positional(const std::string& name, std::string& value, const std::string& help);
  void positional(const std::string& name, std::vector<std::string>& values, const std::string& help,
                  Need need = Need::kRequired);

  // Names of options and flags include the dashes: "--data". A vector takes one or more words.
  void option(const std::string& name, std::string& value, const std::string& help, Need need = Need::kOptional);
  void option(const std::string& name, std::vector<std::string>& values, const std::string& help,
              Need need = Need::kOptional);
  // Number: int, int64_t, uint64_t or double.
  template <class Number>
  requires std::is_arithmetic_v<Number>
  void option(const std::string& name, Number& value, const std::string& help, Range<Number> range = {});
  // One of the choices.
  void choice(const std::string& name, std::string& value, const std::string& help,
              const std::vector<std::string>& choices);
  // Files that exist. Required.
  void files(const std::string& name, std::vector<std::string>& paths, const std::string& help);
  // True when given.
  void flag(const std::string& name, bool& value, const std::string& help);

  // What the command does, once its arguments are read.
  void action(std::function<void()> run);

 private:
  friend class CommandLine;
  explicit Command(CLI::App& app) : app_(&app) {}

  CLI::App* app_;
};

class CommandLine {
 public:
  CommandLine(const std::string& description, const std::string& version);
  ~CommandLine();

  // `shoal` itself, to declare subcommands on.
  Command root();

  // Runs the action of the subcommand that the words name. Returns the text that --help or --version asks for instead,
  // or else "". Throws Error for a mistake in the words, with the --help to look at; passes on what the action throws.
  std::string run(int argc, char** argv);

 private:
  std::unique_ptr<CLI::App> app_;
};

}  // namespace shoal
