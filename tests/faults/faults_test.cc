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
#include <set>
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
  bool varies = false;                 // each run makes another one, with the reads it took
  bool steps = false;                  // what is in the way goes first, then the outputs come one after the other
};

void PrintTo(const Scenario& scenario, std::ostream* out) { *out << scenario.name; }

const std::vector<Scenario>& Scenarios() {
  static const std::vector<Scenario> all = {
      {"convert", {"convert", "@hf", "-o", "@out.gguf"}, {"out.gguf"}},
      {"folder", {"convert", "@model.gguf", "--to", "folder", "-o", "@out"}, {"out"}},
      {"prepare", {"prepare", "@model.gguf", "-o", "@out.thimble", "--screen", "48,3"}, {"out.thimble"}},
      {"run", {"run", "-m", "@model.gguf", "-p", "Once upon a time", "-n", "4", "--temp", "0"}, {}},
      {"card", {"card", "@model.gguf", "-o", "@out.img"}, {"out.img"}},
      {"mounted",
       {"card", "@model.gguf", "--to", "@card"},
       {"card/model.gguf", "card/model.thimble", "card/model.plan", "card/autorun.txt"},
       /*varies=*/false,
       /*steps=*/true},
      {"plan", {"plan", "@model.gguf", "-o", "@out.plan"}, {"out.plan"}},
      {"fit", {"fit", "@model.gguf"}, {}, /*varies=*/true},
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
    // Of a page that it is one.
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
    ASSERT_EQ(RunTool({"prepare", gguf, "--screen", "48,3"}).exit_code, 0);
    // What a mounted card holds already: another training of the same shape, so that size and metadata do not tell
    // them apart, and all that goes with it.
    std::string weights = ReadFile(gguf);
    for (size_t i = weights.size() / 2 + 1; i < weights.size(); i += 6) weights[i] ^= '\x80';
    WriteFile(*made_ / "old.gguf", weights);
    ASSERT_EQ(RunTool({"prepare", *made_ / "old.gguf", "--screen", "48,3"}).exit_code, 0);
    WriteFile(*made_ / "old.plan", "board = esp32-cam\nn_ctx = 64\n");
    WriteFile(*made_ / "old.txt", "prompt = Once\n");
    WriteFile(*made_ / "model.plan", "board = esp32-cam\nn_ctx = 32\n");
    WriteFile(*made_ / "autorun.txt", "prompt = Once upon a time\nn = 4\n");
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
    for (const char* name : {"model.gguf", "model.thimble"}) Put(name, name);
    if (scenario_.steps) {
      fs::create_directories(folder() + "/card");
      for (const char* name : {"model.plan", "autorun.txt"}) Put(name, name);
      if (!old) return;
      Put("old.gguf", "card/model.gguf");
      Put("old.thimble", "card/model.thimble");
      Put("old.plan", "card/model.plan");
      Put("old.txt", "card/autorun.txt");
      return;
    }
    if (std::ranges::find(scenario_.arguments, "@hf") != scenario_.arguments.end()) PutCheckpoint();
    for (const std::string& name : scenario_.outputs) {
      if (!old) continue;
      if (name == "out") continue;  // a folder that holds anything else is not replaced
      WriteFile(folder() + "/" + name, "what stood here");
    }
  }

  void PutCheckpoint() {
    fs::create_directories(folder() + "/hf");
    for (const auto& file : fs::directory_iterator("model/thimble-stories")) {
      fs::copy_file(file.path(), folder() + "/hf/" + file.path().filename().string());
    }
  }

  void Put(const std::string& made, const std::string& name) { fs::copy_file(*made_ / made, folder() + "/" + name); }

  // What a run that ends early may leave, the whole of it last: of one that works in steps, the first so many of them.
  std::vector<std::map<std::string, std::string>> States(const std::map<std::string, std::string>& before,
                                                         const std::map<std::string, std::string>& done) const {
    std::vector<std::map<std::string, std::string>> states = {before};
    if (scenario_.steps) {
      states.push_back(before);
      states.back().erase("card/model.thimble");
      for (const std::string& name : scenario_.outputs) {
        states.push_back(states.back());
        states.back()[name] = done.at(name);
      }
    }
    states.push_back(done);
    return states;
  }

  // What the model on the mounted card says, on a board, with the index and the plan that are there.
  std::string TextOnCard() const {
    const std::string card = folder() + "/card/";
    const ToolRun run = RunTool(
        {"run", "-m", card + "model.gguf", "--plan", card + "model.plan", "-p", "Once upon", "-n", "4", "--temp", "0"});
    return run.exit_code == 0 ? run.out : run.error;
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
        setenv("TMPDIR", temporary_.path().c_str(), 1);  // for what cannot be removed
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
  // What is killed between two steps is worth each of its calls.
  const bool all = (wish != nullptr && std::string(wish) == "all") || (scenario_.steps && kind_ == "kill");
  Prepare(false);
  const FaultyRun sound = Run("none:1");
  ASSERT_TRUE(WIFEXITED(sound.status) && WEXITSTATUS(sound.status) == 0) << sound.error;
  const std::map<std::string, std::string> done = Contents(folder(), scenario_.varies);
  std::string old_text, new_text;
  if (scenario_.steps) {
    new_text = TextOnCard();
    Prepare(true);
    old_text = TextOnCard();
    ASSERT_NE(old_text, new_text);
  }
  std::set<size_t> seen;  // states
  uint64_t runs = 0, failed = 0;
  for (uint64_t n = 1;; n += all || n < 6 ? 1 : n / 2) {
    const bool old = scenario_.steps || n % 2 == 0;
    Prepare(old);
    const std::map<std::string, std::string> before = Contents(folder(), scenario_.varies);
    const std::string fault = kind_ + ":" + std::to_string(n);
    const FaultyRun run = Run(fault);
    if (!run.fired) break;
    ++runs;
    std::map<std::string, std::string> after = Contents(folder(), scenario_.varies);
    const bool killed = kind_ == "kill";
    if (killed) std::erase_if(after, [](const auto& file) { return file.first.find(".part-") != std::string::npos; });
    // All or nothing: what was asked for may be whole, and the fault come after it.
    const auto states = States(before, done);
    const size_t state = static_cast<size_t>(std::ranges::find(states, after) - states.begin());
    ASSERT_LT(state, states.size()) << fault << ": neither what was there (but for " << Difference(after, before)
                                    << ") nor what was asked for\n"
                                    << run.error;
    if (seen.insert(state).second && scenario_.steps) {
      ASSERT_EQ(TextOnCard(), state < 2 ? old_text : new_text) << fault << ", step " << state;
    }
    if (killed) {
      ASSERT_TRUE(WIFSIGNALED(run.status) && WTERMSIG(run.status) == SIGKILL) << fault;
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
  }
  if (scenario_.steps && kind_ == "kill") {
    EXPECT_EQ(seen.size(), scenario_.outputs.size() + 2) << "not killed after each of the steps";
  }
  RecordProperty("runs", static_cast<int>(runs));
  std::printf("%s, %s: %llu faults, %llu of them ended it\n", scenario_.name, kind_.c_str(),
              static_cast<unsigned long long>(runs), static_cast<unsigned long long>(failed));
}

std::string NameOfFaults(const testing::TestParamInfo<std::tuple<Scenario, std::string>>& param) {
  return std::string(std::get<0>(param.param).name) + "_" + std::get<1>(param.param);
}

// Who removes a file that is the user's; other calls of unlink() clean up, and leave what they cannot.
INSTANTIATE_TEST_SUITE_P(Removal, Faults,
                         testing::Combine(testing::Values(*std::ranges::find_if(Scenarios(), &Scenario::steps)),
                                          testing::Values("remove")),
                         NameOfFaults);

INSTANTIATE_TEST_SUITE_P(EveryCall, Faults,
                         testing::Combine(testing::ValuesIn(Scenarios()),
                                          testing::Values("malloc", "open", "read", "write", "sync", "rename", "stat",
                                                          "make", "kill")),
                         NameOfFaults);

}  // namespace
}  // namespace thimble::tests
