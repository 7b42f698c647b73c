#include "host/commands/help.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iterator>
#include <string_view>
#include <vector>

#include "host/support/terminal.h"

namespace thimble::host {
namespace {

constexpr size_t kColumn = 28;  // where descriptions begin
constexpr char kOther[] = "Other";

std::string Heading(std::string_view text) {
  return "\n" + Styled(fmt::format("{}:", text), Style::kBold, TextStream::kOutput) + "\n";
}

// "INT:INT in [0 - 9]" is N, "TEXT:{a,b}" is a|b.
std::string ValueName(const CLI::Option& option) {
  std::string name = option.get_type_name();
  const size_t colon = name.find(':');
  if (colon != name.npos) {
    const std::string checks = name.substr(colon + 1);
    name.resize(colon);
    if (name == "TEXT" && checks.starts_with('{') && checks.ends_with('}')) {
      name = checks.substr(1, checks.size() - 2);
      std::ranges::replace(name, ',', '|');
    }
  }
  if (name == "INT" || name == "UINT" || name == "FLOAT") return "N";
  return name;
}

// "  -n,--predict N        tokens to make (default: -1)", in as many lines as it takes.
std::string Entry(const std::string& name, const std::string& description) {
  std::string out = "  " + name;
  if (out.size() + 2 > kColumn) {
    out += "\n" + std::string(kColumn, ' ');
  } else {
    out.append(kColumn - out.size(), ' ');
  }
  return out + Wrapped(description, PageColumns(), kColumn) + "\n";
}

std::string OptionEntry(const CLI::Option& option) {
  std::string name = option.get_name(false, true);
  const auto* const longer = std::ranges::find(kLongerNames, name, &LongerName::option);
  if (longer != std::end(kLongerNames)) name = fmt::format("{},{}", longer->given, name);
  std::string description = option.get_description();
  if (option.get_type_size() != 0 && option.get_expected_max() != 0) {
    if (const std::string value = ValueName(option); !value.empty()) {
      name += option.get_expected_min() == 0 ? fmt::format(" [{}]", value) : " " + value;
    }
    if (!option.get_default_str().empty()) description += fmt::format(" (default: {})", option.get_default_str());
  }
  return Entry(name, description);
}

class Formatter final : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode) const override {
    std::string out = Wrapped(app->get_description(), PageColumns(), 0) + "\n\n" + make_usage(app, std::move(name));
    std::string positionals;
    for (const CLI::Option* option : app->get_options()) {
      if (option->get_positional() && !option->nonpositional()) {
        positionals += Entry(option->get_name(true, false), option->get_description());
      }
    }
    if (!positionals.empty()) out += Heading("Arguments") + positionals;
    // An option group is a command without a name to CLI11.
    for (const CLI::App* group : app->get_subcommands({})) {
      if (group->get_name().empty()) out += Entries(*group, group->get_group(), "Options");
    }
    out += Commands(*app) + Options(*app);
    if (!app->get_footer().empty()) out += "\n" + app->get_footer() + "\n";
    return out;
  }

  std::string make_usage(const CLI::App* app, std::string name) const override {
    std::string usage = "Usage: " + name;
    if (app->get_parent() == nullptr) return usage + " COMMAND [OPTIONS]\n";
    std::string positionals;
    std::string required;
    for (const CLI::Option* option : app->get_options()) {
      if (option->get_positional()) {
        const std::string argument = option->get_name(true, false);
        positionals += option->get_required() ? " " + argument : fmt::format(" [{}]", argument);
      } else if (option->get_required()) {
        const bool is_short = !option->get_snames().empty();
        required += is_short ? " -" + option->get_snames().front() : " --" + option->get_lnames().front();
        required += " " + ValueName(*option);
      }
    }
    return usage + positionals + required + " [OPTIONS]\n";
  }

 private:
  static std::string Options(const CLI::App& app) {
    std::vector<std::string> groups = app.get_groups();
    // Help is in the first one that CLI11 knows, and nobody's first question.
    const auto other = std::ranges::find(groups, kOther);
    if (other != groups.end()) std::rotate(other, other + 1, groups.end());
    std::string out;
    for (const std::string& group : groups) {
      if (!group.empty()) out += Entries(app, group, group);
    }
    return out;
  }

  static std::string Entries(const CLI::App& app, const std::string& heading, const std::string& group) {
    std::string entries;
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_group() == group && option->nonpositional()) entries += OptionEntry(*option);
    }
    return entries.empty() ? "" : Heading(heading) + entries;
  }

  static std::string Commands(const CLI::App& app) {
    std::vector<std::string> groups;
    const std::vector<const CLI::App*> commands = app.get_subcommands({});
    for (const CLI::App* command : commands) {
      if (command->get_name().empty()) continue;
      if (std::ranges::find(groups, command->get_group()) == groups.end()) groups.push_back(command->get_group());
    }
    std::string out;
    for (const std::string& group : groups) {
      if (group.empty()) continue;
      out += Heading(group);
      for (const CLI::App* command : commands) {
        if (command->get_group() == group) out += Entry(command->get_name(), command->get_description());
      }
    }
    return out;
  }
};

}  // namespace

std::shared_ptr<CLI::FormatterBase> HelpFormatter() { return std::make_shared<Formatter>(); }

std::string FirstScreen() {
  return "Thimble runs language models many times larger than a microcontroller's memory, off its SD card.\n"
         "\n"
         "  thimble fit MODEL                            which boards run it, and how fast\n"
         "  thimble run MODEL -p \"Once upon a time\"      tell a story, inside a board's memory\n"
         "  thimble run MODEL -cnv                       chat\n"
         "  thimble convert FOLDER -o model.gguf         make one file of a Hugging Face folder\n"
         "  thimble card model.gguf -o card.img          put it on a card\n"
         "\n"
         "MODEL is a GGUF file, a Hugging Face folder or a card.\n"
         "'thimble help' lists all commands, 'thimble help COMMAND' explains one.\n";
}

OptionGroup::OptionGroup(CLI::App& command, const std::string& heading)
    : command_(&command), before_(command.option_defaults()->get_group()) {
  command.option_defaults()->group(heading);
}

OptionGroup::~OptionGroup() { command_->option_defaults()->group(before_); }

}  // namespace thimble::host
