// How --help looks, and what is said where there is none to show.
#ifndef THIMBLE_HOST_COMMANDS_HELP_H_
#define THIMBLE_HOST_COMMANDS_HELP_H_

#include <memory>
#include <string>
#include <string_view>

namespace CLI {
class App;
class FormatterBase;
}  // namespace CLI

namespace thimble::host {

// Usage, then options by group, each with a name for its value, its default and nothing that a parser alone wants to
// know; lines wrapped to the terminal.
std::shared_ptr<CLI::FormatterBase> HelpFormatter();

// Short names of more than one letter, as llama.cpp has them and CLI11 has none: -cnv would be -c nv there.
struct LongerName {
  std::string_view given;
  std::string_view option;
};
inline constexpr LongerName kLongerNames[] = {
    {"-cnv", "--conversation"}, {"-sys", "--system-prompt"}, {"-ctk", "--cache-type-k"}, {"-ctv", "--cache-type-v"}};

// What `thimble` alone prints: the first steps.
std::string FirstScreen();

// While it lives, options added to `command` come under this heading of the help.
class OptionGroup {
 public:
  OptionGroup(CLI::App& command, const std::string& heading);
  ~OptionGroup();
  OptionGroup(const OptionGroup&) = delete;
  OptionGroup& operator=(const OptionGroup&) = delete;

 private:
  CLI::App* command_;
  std::string before_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_HELP_H_
