// core/cli/command_line.cpp: the command line on top of CLI11; the only file that includes it.
#include "core/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "core/base/check.h"
#include "core/config/suggest.h"

namespace shoal {
namespace {

// CLI11's own message would print the largest number there is.
template <class Number>
CLI::Validator at_least(Number low, const std::string& name) {
  const auto check = [low](std::string& text) -> std::string {
    Number value{};
    if (CLI::detail::lexical_cast(text, value) && value >= low) return {};
    return fmt::format("{} is given; expected a number of at least {}", text, low);
  };
  return CLI::Validator(name).operation(check);
}

// Named where a name fits: it reads better in the help.
template <class Number>
void check_range(CLI::Option& option, const Range<Number>& range) {
  using Limits = std::numeric_limits<Number>;
  const bool open = range.high == Limits::max();
  if (open && range.low == Limits::lowest()) return;
  if (open && range.low == Number{0}) {
    option.check(at_least(range.low, "NONNEGATIVE"));
  } else if (open && Limits::is_integer && range.low == Number{1}) {
    option.check(at_least(range.low, "POSITIVE"));
  } else {
    option.check(CLI::Range(range.low, range.high));
    if constexpr (!Limits::is_integer) option.check(at_least(range.low, ""));  // nan is in every range of CLI11's
  }
}

// A first word that is no subcommand: CLI11 would only say that a subcommand is required.
void check_subcommand(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  if (std::find(names.begin(), names.end(), argv[1]) != names.end()) return;
  const std::string nearest = nearest_name(argv[1], names);
  fail("there is no command `{}`; {}\nSee `shoal --help`.", argv[1],
       nearest.empty() ? "expected " + join_choices(names) : fmt::format("did you mean `{}`?", nearest));
}

// "shoal tokenizer train": the innermost subcommand that was named.
std::string named_command(const CLI::App& app) {
  std::string command = "shoal";
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    command += " " + at->get_name();
  }
  return command;
}

}  // namespace

Command Command::subcommand(const std::string& name, const std::string& description, const std::string& footer) {
  app_->require_subcommand(1);
  CLI::App* command = app_->add_subcommand(name, description);
  command->footer(footer);
  return Command(*command);
}

void Command::positional(const std::string& name, std::string& value, const std::string& help) {
  option(name, value, help, Need::kRequired);
}

void Command::positional(const std::string& name, std::vector<std::string>& values, const std::string& help,
                         Need need) {
  option(name, values, help, need);
}

void Command::option(const std::string& name, std::string& value, const std::string& help, Need need) {
  app_->add_option(name, value, help)->required(need == Need::kRequired)->capture_default_str();
}

void Command::option(const std::string& name, std::vector<std::string>& values, const std::string& help, Need need) {
  app_->add_option(name, values, help)->required(need == Need::kRequired);
}

template <class Number>
requires std::is_arithmetic_v<Number>
void Command::option(const std::string& name, Number& value, const std::string& help, Range<Number> range) {
  CLI::Option* option = app_->add_option(name, value, help);
  check_range(*option, range);
  if (range.low <= value && value <= range.high) option->capture_default_str();
}

template void Command::option(const std::string&, int&, const std::string&, Range<int>);
template void Command::option(const std::string&, int64_t&, const std::string&, Range<int64_t>);
template void Command::option(const std::string&, uint64_t&, const std::string&, Range<uint64_t>);
template void Command::option(const std::string&, double&, const std::string&, Range<double>);

void Command::choice(const std::string& name, std::string& value, const std::string& help,
                     const std::vector<std::string>& choices) {
  app_->add_option(name, value, help)->check(CLI::IsMember(choices))->capture_default_str();
}

void Command::files(const std::string& name, std::vector<std::string>& paths, const std::string& help) {
  app_->add_option(name, paths, help)->required()->check(CLI::ExistingFile);
}

void Command::flag(const std::string& name, bool& value, const std::string& help) { app_->add_flag(name, value, help); }

void Command::action(std::function<void()> run) { app_->callback(std::move(run)); }

CommandLine::CommandLine(const std::string& description, const std::string& version)
    : app_(std::make_unique<CLI::App>(description)) {
  app_->set_version_flag("--version", version, "Print the version and exit");
  app_->get_formatter()->column_width(28);
}

CommandLine::~CommandLine() = default;

Command CommandLine::root() { return Command(*app_); }

std::string CommandLine::run(int argc, char** argv) {
  check_subcommand(*app_, argc, argv);
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != static_cast<int>(CLI::ExitCodes::Success)) {
      fail("{}\nSee `{} --help`.", error.what(), named_command(*app_));
    }
    std::ostringstream text;
    app_->exit(error, text, text);
    return text.str();
  }
  return "";
}

}  // namespace shoal
