// Every call that can fail does, one after the other: whatever a command was doing then, it ends with one sentence,
// loses nothing of the user's and leaves nothing half done. See faults.cc for the calls.
//
// A few calls of each kind in ./check, all of them in ./check --slow (THIMBLE_FAULTS=all).
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/support/checkpoints.h"
#include "tests/support/tool.h"

namespace thimble::tests {
namespace {

namespace fs = std::filesystem;

// What a command is given and what it makes, by their names in a folder of its own.
void PrintTo(const struct Scenario& scenario, std::ostream* out);
struct Scenario {
  const char* name;
  std::vector<std::string> arguments;  // "@NAME": the file NAME in that folder
  std::vector<std::string> outputs;    // of it
  bool varies = false;                 // each run makes another one: of the same size, or with the reads it took
};

void PrintTo(const Scenario& scenario, std::ostream* out) { *out << scenario.name; }

const std::vector<Scenario>& Scenarios() {
  static const std::vector<Scenario> all = {
      {"convert", {"convert", "@hf", "-o", "@out.gguf"}, {"out.gguf"}},
      {"folder", {"convert", "@model.gguf", "--to", "folder", "-o", "@out"}, {"out"}},
      {"prepare", {"prepare", "@model.gguf", "-o", "@out.thimble", "--screen-bits", "4,3"}, {"out.thimble"}},
      {"run", {"run", "-m", "@model.gguf", "-p", "Once upon a time", "-n", "4", "--temp", "0"}, {}},
      {"card", {"card", "@model.gguf", "-o", "@out.img"}, {"out.img"}, /*varies=*/true},
      {"plan", {"plan", "@model.gguf", "-o", "@out.plan"}, {"out.plan"}},
      {"verify", {"verify", "@model.gguf"}, {}, /*varies=*/true},
      {"html",
       {"simulate", "@model.gguf", "--ids", "1", "-n", "2", "--temp", "0", "--html", "@out.html"},
       {"out.html"},
       /*varies=*/true},
  };
  return all;
}

// All files below a folder, by path.
std::map<std::string, std::string> Contents(const std::string& folder, bool varies) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = fs::relative(entry.path(), folder).string();
    files[name] = entry.is_regular_file() ? ReadFile(entry.path().string()) : "";
    // Of an image the size, of a page that it is one.
    if (varies && name.ends_with(".img")) files[name] = std::to_string(files[name].size());
    if (varies && name.ends_with(".html")) files[name] = files[name].ends_with("</html>\n") ? "a page" : "";
  }
  return files;
}

// The first name in which they differ; empty if they are the same.
std::string Difference(const std::map<std::string, std::string>& a, const std::map<std::string, std::string>& b) {
  for (const auto& [name, text] : a) {
    if (!b.contains(name) || b.at(name) != text) return name;
  }
  for (const auto& [name, text] : b) {
    if (!a.contains(name)) return name;
  }
  return "";
}

struct FaultyRun {
  int status = 0;  // as waitpid() gives it
  bool fired = false;
  std::string out, error;
};

class Faults : public testing::TestWithParam<std::tuple<Scenario, std::string>> {
 protected:
  static void SetUpTestSuite() {
    made_ = new TemporaryFolder;
    const std::string gguf = *made_ / "model.gguf";
    ASSERT_EQ(RunTool({"synth", "small", "-o", gguf}).exit_code, 0);
    ASSERT_EQ(RunTool({"prepare", gguf, "--screen-bits", "4,3"}).exit_code, 0);
  }
  static void TearDownTestSuite() {
    delete made_;
    made_ = nullptr;
  }

  Faults() : scenario_(std::get<0>(GetParam())), kind_(std::get<1>(GetParam())) {}

  // The folder as it is before a run; with `old`, outputs of an earlier one stand in it.
  void Prepare(bool old) {
    fs::remove_all(folder());
    fs::create_directories(folder());
    for (const char* name : {"model.gguf", "model.thimble"}) fs::copy_file(*made_ / name, folder() + "/" + name);
    fs::create_directories(folder() + "/hf");
    for (const auto& file : fs::directory_iterator("model/thimble-stories")) {
      fs::copy_file(file.path(), folder() + "/hf/" + file.path().filename().string());
    }
    for (const std::string& name : scenario_.outputs) {
      if (!old) continue;
      if (name == "out") continue;  // a folder that holds anything else is not replaced
      WriteFile(folder() + "/" + name, "what stood here");
    }
  }

  FaultyRun Run(const std::string& fault) {
    std::vector<std::string> words = {THIMBLE_FAULTY_TOOL};
    for (const std::string& word : scenario_.arguments) {
      words.push_back(word.starts_with("@") ? folder() + "/" + word.substr(1) : word);
    }
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const std::string mark = temporary_ / "mark", out = temporary_ / "stdout", error = temporary_ / "stderr";
    fs::remove(mark);
    const pid_t child = fork();
    if (child == 0) {
      if (std::freopen("/dev/null", "r", stdin) && std::freopen(out.c_str(), "w", stdout) &&
          std::freopen(error.c_str(), "w", stderr)) {
        setenv("THIMBLE_FAULT", fault.c_str(), 1);
        setenv("THIMBLE_FAULT_MARK", mark.c_str(), 1);
        execv(argv[0], argv.data());
      }
      _exit(127);
    }
    FaultyRun run;
    EXPECT_EQ(waitpid(child, &run.status, 0), child);
    run.fired = fs::exists(mark);
    run.out = ReadFile(out);
    run.error = ReadFile(error);
    return run;
  }

  std::string folder() const { return temporary_ / "work"; }

  static inline TemporaryFolder* made_ = nullptr;
  TemporaryFolder temporary_;
  Scenario scenario_;
  std::string kind_;
};

TEST_P(Faults, EndWithASentenceAndLoseNothing) {
  const char* const wish = std::getenv("THIMBLE_FAULTS");
  const bool all = wish != nullptr && std::string(wish) == "all";
  Prepare(false);
  const FaultyRun sound = Run("none:1");
  ASSERT_TRUE(WIFEXITED(sound.status) && WEXITSTATUS(sound.status) == 0) << sound.error;
  const std::map<std::string, std::string> done = Contents(folder(), scenario_.varies);
  uint64_t runs = 0, failed = 0;
  for (uint64_t n = 1;; n += all || n < 6 ? 1 : n / 2) {
    const bool old = n % 2 == 0;
    Prepare(old);
    const std::map<std::string, std::string> before = Contents(folder(), scenario_.varies);
    const std::string fault = kind_ + ":" + std::to_string(n);
    const FaultyRun run = Run(fault);
    if (!run.fired) break;
    ++runs;
    std::map<std::string, std::string> after = Contents(folder(), scenario_.varies);
    if (kind_ == "kill") {
      ASSERT_TRUE(WIFSIGNALED(run.status) && WTERMSIG(run.status) == SIGKILL) << fault;
      std::erase_if(after, [](const auto& file) { return file.first.find(".part-") != std::string::npos; });
      ASSERT_TRUE(after == before || after == done) << fault << ": neither what was there nor what was asked for";
      continue;
    }
    ASSERT_TRUE(WIFEXITED(run.status)) << fault << " ended it by signal " << WTERMSIG(run.status) << "\n" << run.error;
    const int code = WEXITSTATUS(run.status);
    ASSERT_TRUE(code == 0 || code == 1) << fault << ": exit " << code << "\n" << run.error;
    if (code == 0) {
      // The fault did no harm: all is as without it.
      ASSERT_EQ(Difference(after, done), "") << fault << ": exit 0, and other files than without a fault";
      ASSERT_TRUE(!scenario_.outputs.empty() || scenario_.varies || run.out == sound.out)
          << fault << ": exit 0, and another text";
      continue;
    }
    ++failed;
    const size_t last = run.error.rfind("thimble: ");
    ASSERT_NE(last, std::string::npos) << fault << ": no sentence\n" << run.error;
    ASSERT_EQ(std::count(run.error.begin() + static_cast<ptrdiff_t>(last), run.error.end(), '\n'), 1)
        << fault << ": more than a sentence\n"
        << run.error;
    // All or nothing: what was asked for may be whole, and the fault come after it.
    if (Difference(after, done).empty()) continue;
    ASSERT_EQ(Difference(after, before), "") << fault << ": what was there has changed\n" << run.error;
  }
  RecordProperty("runs", static_cast<int>(runs));
  std::printf("%s, %s: %llu faults, %llu of them ended it\n", scenario_.name, kind_.c_str(),
              static_cast<unsigned long long>(runs), static_cast<unsigned long long>(failed));
}

INSTANTIATE_TEST_SUITE_P(
    EveryCall, Faults,
    testing::Combine(testing::ValuesIn(Scenarios()),
                     testing::Values("malloc", "open", "read", "write", "sync", "rename", "stat", "make", "kill")),
    [](const auto& param) { return std::string(std::get<0>(param.param).name) + "_" + std::get<1>(param.param); });

}  // namespace
}  // namespace thimble::tests
