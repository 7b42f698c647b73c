// Whichever way an input of a command is named as its output, nothing of it is lost.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/support/checkpoints.h"
#include "tests/support/tool.h"

namespace thimble::tests {
namespace {

namespace fs = std::filesystem;

class Outputs : public testing::Test {
 protected:
  Outputs() {
    EXPECT_EQ(RunTool({"synth", "small", "-o", At("model.gguf")}).exit_code, 0);
    EXPECT_EQ(RunTool({"prepare", At("model.gguf"), "--screen", "48,3"}).exit_code, 0);
    EXPECT_EQ(RunTool({"plan", At("model.gguf"), "--board", "esp32-cam", "-o", At("cam.plan")}).exit_code, 0);
    WriteFile(At("mine.json"), R"({"thimble_board": 1, "name": "mine", "like": "esp32-cam"})");
    WriteFile(At("prompt.txt"), "Once upon a time");
    std::string text;
    for (int i = 0; i < 400; ++i) text += "Once upon a time there was a " + std::to_string(i) + ". ";
    WriteFile(At("long.txt"), text);
    fs::create_directory(At("hf"));
    for (const auto& file : fs::directory_iterator("model/thimble-stories")) {
      fs::copy_file(file.path(), At("hf/" + file.path().filename().string()));
    }
    fs::create_directory(At("links"));
  }

  std::string At(const std::string& name) const { return folder_ / name.c_str(); }

  // Of all files: name and contents.
  std::map<std::string, std::string> Contents() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(At(""))) {
      if (entry.is_regular_file()) files[entry.path().string()] = ReadFile(entry.path().string());
    }
    return files;
  }

  // Runs the command with each of `inputs`, by its name, by a hard and by a symbolic link, as its output.
  void ExpectRefusals(std::vector<std::string> command, const std::vector<std::string>& inputs) {
    for (const std::string& input : inputs) {
      const std::string hard = At("links/hard"), soft = At("links/soft");
      fs::create_hard_link(At(input), hard);
      fs::create_symlink(At(input), soft);
      const std::map<std::string, std::string> before = Contents();
      for (const std::string& output : {At(input), hard, soft}) {
        std::vector<std::string> words = command;
        words.push_back(output);
        const ToolRun run = RunTool(words);
        EXPECT_EQ(run.exit_code, 1) << command[0] << " onto " << output;
        EXPECT_NE(run.error.find("being read"), std::string::npos) << output << "\n" << run.error;
        EXPECT_TRUE(Contents() == before) << command[0] << " onto " << output;
        ++refused_;
      }
      fs::remove(hard);
      fs::remove(soft);
    }
  }

  TemporaryFolder folder_;
  int refused_ = 0;
};

TEST_F(Outputs, NeverReplaceAnInput) {
  const std::vector<std::string> hf = {"hf/model.safetensors", "hf/config.json", "hf/tokenizer.model",
                                       "hf/tokenizer_config.json"};
  ExpectRefusals({"convert", At("hf"), "-o"}, hf);
  ExpectRefusals({"card", At("hf"), "-o"}, hf);
  ExpectRefusals({"plan", At("hf"), "-o"}, hf);
  ExpectRefusals({"convert", At("model.gguf"), "-o"}, {"model.gguf"});
  ExpectRefusals({"convert", At("hf"), "--quant", "auto", "--kld", "0.01", "--kld-text", At("long.txt"), "-o"},
                 {"long.txt"});
  ExpectRefusals({"prepare", At("model.gguf"), "--screen", "48,3", "-o"}, {"model.gguf"});
  ExpectRefusals({"card", At("model.gguf"), "-o"}, {"model.gguf", "model.thimble"});
  ExpectRefusals({"plan", At("model.gguf"), "--board", At("mine.json"), "-o"},
                 {"model.gguf", "model.thimble", "mine.json"});
  ExpectRefusals({"plan", At("model.gguf"), "--plan", At("cam.plan"), "-o"}, {"cam.plan"});
  ExpectRefusals({"flash-image", At("model.gguf"), "--plan", At("cam.plan"), "-o"},
                 {"model.gguf", "model.thimble", "cam.plan"});
  for (const char* page : {"--html", "--trace"}) {
    ExpectRefusals({"simulate", At("model.gguf"), "--plan", At("cam.plan"), "-f", At("prompt.txt"), "-n", "2", page},
                   {"model.gguf", "model.thimble", "cam.plan", "prompt.txt"});
    ExpectRefusals({"simulate", At("model.gguf"), "--board", At("mine.json"), "--ids", "1", "-n", "2", page},
                   {"mine.json"});
  }
  ExpectRefusals({"compare", At("model.gguf"), "-f", At("long.txt"), "--plot"}, {"model.gguf", "long.txt"});
  EXPECT_GE(refused_, 90);
}

// An index is made anew in the place of the old one, which is read to see what it is.
TEST_F(Outputs, AnIndexIsMadeAgain) {
  const std::string before = ReadFile(At("model.thimble"));
  EXPECT_EQ(RunTool({"prepare", At("model.gguf"), "--screen", "48,2"}).exit_code, 0);
  EXPECT_NE(ReadFile(At("model.thimble")), before);
}

TEST_F(Outputs, AreWrittenThroughLinksAndKeepTheirMode) {
  WriteFile(At("old.plan"), "mine");
  ASSERT_EQ(chmod(At("old.plan").c_str(), 0600), 0);
  fs::create_symlink("old.plan", At("link.plan"));
  EXPECT_EQ(RunTool({"plan", At("model.gguf"), "-o", At("link.plan")}).exit_code, 0);
  EXPECT_TRUE(fs::is_symlink(At("link.plan")));
  EXPECT_EQ(ReadFile(At("old.plan")), ReadFile(At("cam.plan")));
  struct stat info;
  ASSERT_EQ(stat(At("old.plan").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  // A link to nothing makes the file it names.
  fs::create_symlink("new.plan", At("dangling.plan"));
  EXPECT_EQ(RunTool({"plan", At("model.gguf"), "-o", At("dangling.plan")}).exit_code, 0);
  EXPECT_EQ(ReadFile(At("new.plan")), ReadFile(At("cam.plan")));
  fs::create_symlink("loop.plan", At("loop.plan"));
  EXPECT_EQ(RunTool({"plan", At("model.gguf"), "-o", At("loop.plan")}).exit_code, 1);
}

TEST_F(Outputs, NothingInDevOrProcIsReplaced) {
  const std::map<std::string, std::string> before = Contents();
  for (const char* output : {"/dev/null", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/full", "/dev/new"}) {
    const ToolRun run = RunTool({"plan", At("model.gguf"), "-o", output});
    EXPECT_EQ(run.exit_code, 1) << output;
    EXPECT_NE(run.error.find(std::string("cannot write ") + output), std::string::npos) << run.error;
  }
  EXPECT_TRUE(fs::is_symlink("/dev/stdout"));
  EXPECT_FALSE(fs::exists("/dev/new"));
  EXPECT_TRUE(Contents() == before);
}

TEST_F(Outputs, WhatAKilledRunLeftIsRemoved) {
  WriteFile(At("out.plan.part-aB3dEf"), "half");
  WriteFile(At("out.plan.part-notours"), "someone's");
  WriteFile(At("other.plan.part-aB3dEf"), "half of another");
  EXPECT_EQ(RunTool({"plan", At("model.gguf"), "-o", At("out.plan")}).exit_code, 0);
  EXPECT_FALSE(fs::exists(At("out.plan.part-aB3dEf")));
  EXPECT_TRUE(fs::exists(At("out.plan.part-notours")));
  EXPECT_TRUE(fs::exists(At("other.plan.part-aB3dEf")));
}

TEST_F(Outputs, LostStandardOutputIsAFailure) {
  const std::vector<std::vector<std::string>> commands = {{"inspect", At("model.gguf")},
                                                          {"plan", At("model.gguf")},
                                                          {"fit", At("model.gguf")},
                                                          {"verify", At("model.gguf")},
                                                          {"boards"},
                                                          {"boards", "esp32-cam"},
                                                          {"run", "-m", At("model.gguf"), "--ids", "1", "-n", "2"},
                                                          {"simulate", At("model.gguf"), "--ids", "1", "-n", "2"},
                                                          {"tokenize", "-m", At("model.gguf"), "-p", "Once"},
                                                          {"perplexity", "-m", At("model.gguf"), "-f", At("long.txt")},
                                                          {"prepare", At("model.gguf"), "--screen", "48,3"},
                                                          {"card", At("model.gguf"), "-o", At("card.img")},
                                                          {"convert", At("hf"), "-o", At("out.gguf")},
                                                          {"--version"},
                                                          {"--help"},
                                                          {"run", "--help"}};
  for (const std::vector<std::string>& command : commands) {
    const ToolRun run = RunTool(command, "", "/dev/full");
    EXPECT_EQ(run.exit_code, 1) << command[0];
    EXPECT_NE(run.error.find("standard output is lost"), std::string::npos) << command[0] << "\n" << run.error;
  }
}

}  // namespace
}  // namespace thimble::tests
