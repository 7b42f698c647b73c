// The console on a simulated board: what is typed, and what stands on the terminal then.
#include "firmware/app/console.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/storage/flash_writer.h"
#include "firmware/app/report.h"
#include "firmware/simulated/simulated_board.h"
#include "host/boards/board_log.h"
#include "host/devices/faulty_device.h"
#include "host/devices/file_device.h"
#include "host/devices/nor_flash.h"
#include "tests/support/checkpoints.h"
#include "tests/support/painted_stack.h"
#include "tests/support/stories_card.h"
#include "tests/support/tool.h"
#include "tests/support/workers.h"

namespace thimble::firmware {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

static_assert(kReportBegin == host::kReportBegin && kReportEnd == host::kReportEnd);
constexpr char kStory[] = "Once upon a time";

// One card for all tests.
class ConsoleTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    MakeStoriesCard(*folder_);
  }
  static void TearDownTestSuite() { delete folder_; }

  void SetUp() override {
    device_ = *host::FileDevice::Open(*folder_ / "card.img");
    faulty_ = std::make_unique<host::FaultyDevice>(*device_);
    slot_ = std::make_unique<SimulatedSlot>(faulty_.get());
    Start();
  }
  // As after a reset.
  void Start(const Board& board = kEsp32Cam) {
    console_.reset();
    model_.reset();
    const std::map<std::string, std::string> kept = board_ ? board_->settings : std::map<std::string, std::string>();
    board_ = std::make_unique<SimulatedBoard>(board, *slot_, /*shows=*/false, flash_.get());
    board_->settings = kept;
    board_->cores = cores_;
    model_ = std::make_unique<CardModel>(*board_, cores_);
    console_ = std::make_unique<Console>(*board_, *model_, cores_);
    console_->Start();
  }
  std::string Type(const std::string& line) {
    board_->ClearOutput();
    console_->Execute(line);
    return board_->output();
  }
  // The text that was made: without what is told before it and after it.
  static std::string Made(std::string output) {
    output.resize(std::min(output.rfind("\n["), output.size()));
    size_t begin = 0;
    while (true) {
      const std::string rest = output.substr(begin);
      if (!rest.starts_with("model ") && !rest.starts_with("flash: ") && !rest.starts_with("writing ")) return rest;
      begin = output.find('\n', begin) + 1;
    }
  }

  static TemporaryFolder* folder_;
  std::unique_ptr<host::FileDevice> device_;
  std::unique_ptr<host::FaultyDevice> faulty_;
  std::unique_ptr<SimulatedSlot> slot_;
  std::unique_ptr<host::NorFlash> flash_;
  SimulatedCores* cores_ = nullptr;
  std::unique_ptr<SimulatedBoard> board_;
  std::unique_ptr<CardModel> model_;
  std::unique_ptr<Console> console_;
};
TemporaryFolder* ConsoleTest::folder_ = nullptr;

TEST_F(ConsoleTest, SaysWhoIsThere) {
  EXPECT_THAT(board_->output(), AllOf(HasSubstr("Thimble on esp32-cam"), HasSubstr("'help'")));
  EXPECT_THAT(board_->output(), Not(HasSubstr("WRONG")));
  const std::string help = Type("help");
  for (const Console::Command& command : Console::commands()) {
    if (command.name == "?") continue;
    EXPECT_THAT(help, HasSubstr(std::string(command.name) + " "));
  }
}

TEST_F(ConsoleTest, IsAsTheManualSays) {
  const std::string manual = ReadFile("docs/board.md");
  for (const Console::Command& command : Console::commands()) {
    if (command.name == "?") continue;
    EXPECT_THAT(manual, HasSubstr("| `" + std::string(command.name)));
  }
  flash_ =
      std::make_unique<host::NorFlash>(static_cast<size_t>(storage::FlashBytes(kEsp32Cam.capacity(Region::kFlash))));
  Start();
  Type("set temp 0");
  Type("set predict 20");
  const std::string said = Type(std::string("run ") + kStory);
  for (size_t at = 0; at < said.size(); at = said.find('\n', at) + 1) {
    const std::string line = said.substr(at, said.find('\n', at) - at);
    const bool is_left_out = line.starts_with("flash: ") && line != "flash: 10 %" && line != "flash: 100 %";
    if (is_left_out || line.starts_with("[")) continue;
    EXPECT_THAT(manual, HasSubstr("\n" + line + "\n"));
  }
}

TEST_F(ConsoleTest, ContinuesATextAsTheToolDoes) {
  Type("set temp 0");
  Type("set predict 20");
  const std::string typed = Type(std::string("run ") + kStory);
  const ToolRun tool =
      RunTool({"run", "-m", *folder_ / "stories.gguf", "-p", kStory, "-n", "20", "--temp", "0", "--json"});
  ASSERT_EQ(tool.exit_code, 0) << tool.error;
  const auto json = nlohmann::json::parse(tool.out);
  EXPECT_THAT(typed, HasSubstr(json["text"].get<std::string>() + "\n[20 tokens"));
  EXPECT_THAT(typed, Not(HasSubstr("seed")));
  EXPECT_EQ(Type(std::string("run \"") + kStory + "\""), Type(std::string("run   ") + kStory + "  "));
}

TEST_F(ConsoleTest, ASampledTextIsTheToolsToo) {
  for (const char* line : {"set predict 12", "set seed 7", "set temp 1.5", "set top-k 30", "set min-p 0.01"})
    Type(line);
  const std::string typed = Type("run The dog");
  const ToolRun tool = RunTool({"run", "-m", *folder_ / "stories.gguf", "-p", "The dog", "-n", "12", "--seed", "7",
                                "--temp", "1.5", "--top-k", "30", "--min-p", "0.01", "--json"});
  ASSERT_EQ(tool.exit_code, 0) << tool.error;
  EXPECT_THAT(typed, HasSubstr(nlohmann::json::parse(tool.out)["text"].get<std::string>() + "\n[12 tokens"));
  EXPECT_THAT(typed, HasSubstr("seed 7"));
}

TEST_F(ConsoleTest, AConversationGoesOnWhereItStood) {
  Type("set temp 0");
  Type("set predict 6");
  EXPECT_STREQ(console_->prompt(), "thimble> ");
  Type("run");
  EXPECT_STREQ(console_->prompt(), ">>> ");
  Type(kStory);
  const uint32_t after_first = model_->session().n_past();
  const std::string second = Type("");
  EXPECT_GT(model_->session().n_past(), after_first);
  Type("/clear");
  EXPECT_EQ(model_->session().n_past(), 0u);
  Type("/set predict 12");
  const std::string both = Type(kStory);
  EXPECT_THAT(Made(both), EndsWith(Made(second)));
  EXPECT_THAT(Type("/what"), HasSubstr("/bye"));
  EXPECT_THAT(Type("help me \"now"), HasSubstr("tokens"));  // no command, no quotes
  EXPECT_THAT(Type(std::string(2000, 'x')), HasSubstr("longer than"));
  Type("/bye");
  EXPECT_STREQ(console_->prompt(), "thimble> ");
}

TEST_F(ConsoleTest, AFullContextEndsTheTextAndNotTheConversation) {
  Type("set temp 0");
  Type("set ctx-size 16");
  Type("run");
  EXPECT_THAT(Type(kStory), HasSubstr("the context is full"));
  EXPECT_THAT(Type("and then"), HasSubstr("positions of the context are free"));
  EXPECT_STREQ(console_->prompt(), ">>> ");
  Type("/clear");
  EXPECT_THAT(Type(kStory), HasSubstr("the context is full"));
}

TEST_F(ConsoleTest, ControlCEndsTheTextAndTheNextIsWhole) {
  Type("set temp 0");
  Type("set predict 30");
  const std::string whole = Type(std::string("run ") + kStory);
  for (uint64_t after : {0u, 1u, 5u, 9u}) {
    board_->ClearOutput();
    board_->interrupt_after_writes = board_->writes() + after;
    console_->Execute(std::string("run ") + kStory);
    board_->interrupt_after_writes = SimulatedSlot::kNever;
    EXPECT_THAT(board_->output(), HasSubstr("Ctrl-C"));
    EXPECT_LT(board_->output().size(), whole.size());
    EXPECT_EQ(Made(Type(std::string("run ") + kStory)), Made(whole));
  }
}

TEST_F(ConsoleTest, ControlCEndsWhateverTakesLong) {
  for (const char* line :
       {"bench", "bench card", "bench psram", "bench kernels", "doctor", "doctor --report", "ls", "run x", "plan"}) {
    for (uint64_t after = 0; after < 40; after += 3) {
      board_->ClearOutput();
      board_->interrupt_after_looks = board_->looks() + after;
      console_->Execute(line);
      board_->interrupt_after_looks = SimulatedSlot::kNever;
    }
    EXPECT_THAT(Type("set temp 0"), "") << line;
  }
  Type("set predict 3");
  EXPECT_THAT(Type("run x"), HasSubstr("[3 tokens"));
}

TEST_F(ConsoleTest, ACardThatIsPulledIsToldOfAndWorksWhenItIsBack) {
  Type("set temp 0");
  Type("set predict 10");
  const std::string whole = Type(std::string("run ") + kStory);
  const uint64_t reads_of_all = slot_->reads();
  int told = 0;
  for (uint64_t after = 0; after < reads_of_all; after += 5) {
    Start();
    slot_->Insert(faulty_.get(), 1);
    slot_->pulled_after = slot_->reads() + after;
    const std::string pulled = Type(std::string("run ") + kStory);
    slot_->pulled_after = SimulatedSlot::kNever;
    if (pulled.find("error: ") != pulled.npos) {
      ++told;
      EXPECT_THAT(pulled, HasSubstr("card"));
    }
    EXPECT_THAT(Type(std::string("run ") + kStory),
                slot_->contents() == nullptr ? HasSubstr("error: ") : HasSubstr("tokens"));
    slot_->Insert(faulty_.get(), 1);
    EXPECT_EQ(Made(Type(std::string("run ") + kStory)), Made(whole)) << "pulled after " << after << " reads";
  }
  EXPECT_GT(told, 10);
}

TEST_F(ConsoleTest, ABadReadIsMadeAgainAndCounted) {
  Type("set temp 0");
  Type("set predict 5");
  const std::string whole = Type(std::string("run ") + kStory);
  slot_->io_failures = 2;
  const std::string again = Type(std::string("run ") + kStory);
  EXPECT_THAT(again, HasSubstr("2 reads of the card made again"));
  EXPECT_EQ(Made(again), Made(whole));
}

TEST_F(ConsoleTest, KeepsSettings) {
  EXPECT_EQ(Type("set top-p 0.5"), "");
  EXPECT_EQ(Type("set top_k 7"), "");
  EXPECT_EQ(Type("set model STORIES.GGUF"), "");
  EXPECT_EQ(board_->settings["top-p"], "0.5");
  EXPECT_EQ(board_->settings["top-k"], "7");
  Start();
  EXPECT_EQ(console_->settings().run.start.sampler.top_k, 7u);
  EXPECT_EQ(console_->settings().run.start.sampler.top_p, 0.5f);
  EXPECT_STREQ(console_->settings().model.data(), "STORIES.GGUF");
  EXPECT_THAT(Type("set"),
              AllOf(HasSubstr("top-p          0.5 "), HasSubstr("top-k          7 "), HasSubstr("STORIES.GGUF")));
  Type("set reset");
  EXPECT_TRUE(board_->settings.empty());
  EXPECT_EQ(console_->settings().run.start.sampler.top_k, 40u);
  board_->keeps_settings = false;
  EXPECT_THAT(Type("set temp 0"), HasSubstr("keeps no settings"));
  EXPECT_EQ(console_->settings().run.start.sampler.temperature, 0.0f);
}

TEST_F(ConsoleTest, SettingsThatDoNotParseChangeNothing) {
  const std::string before = Type("set");
  for (const char* line : {"set temp hot",
                           "set temp -1",
                           "set temp 1e40",
                           "set temp nan",
                           "set temp",
                           "set top-k 1.5",
                           "set top-k -2",
                           "set top-k 99999999999999999999",
                           "set top-p 0",
                           "set top-p 1.01",
                           "set min-p 1",
                           "set repeat-penalty 0",
                           "set repeat-last-n -2",
                           "set seed 0x10",
                           "set seed -2",
                           "set predict -2",
                           "set ctx-size -1",
                           "set head big",
                           "set nothing 1",
                           "set temp 0 1",
                           "set \"\" 1",
                           "set temp \"\"",
                           "set head \"\""}) {
    EXPECT_NE(Type(line), "") << line;
  }
  EXPECT_EQ(Type("set"), before);
  EXPECT_TRUE(board_->settings.empty());
  // What another version may have kept.
  board_->settings = {{"temp", "very"}, {"top-k", "3"}, {"model", std::string(250, 'x')}, {"seed", ""}};
  Start();
  EXPECT_THAT(board_->output(),
              AllOf(HasSubstr("temp is left out"), HasSubstr("model is left out"), HasSubstr("seed is left out")));
  EXPECT_EQ(console_->settings().run.start.sampler.top_k, 3u);
}

TEST_F(ConsoleTest, APlanThatDoesNotFitNamesWhatDoes) {
  Type("set ctx-size 4000000");
  EXPECT_THAT(Type("plan"), AllOf(HasSubstr("error: "), Not(HasSubstr("a token reads"))));
  EXPECT_THAT(Type("run x"), HasSubstr("error: "));
  Board small = kEsp32Cam;
  small.capacity_bytes[static_cast<size_t>(Region::kPsram)] = 160 * 1024;
  Start(small);
  Type("set ctx-size 256");
  const std::string refused = Type("plan");
  ASSERT_THAT(refused, AllOf(HasSubstr("error: "), HasSubstr("hint: 'set ctx-size "))) << refused;
  const size_t at = refused.find("'set ") + 1;
  EXPECT_EQ(Type(refused.substr(at, refused.find('\'', at) - at)), "");
  EXPECT_THAT(Type("plan"), HasSubstr("a token reads"));
}

TEST_F(ConsoleTest, ShowsPlanAndInfo) {
  EXPECT_THAT(Type("info"), AllOf(HasSubstr("a computer revision 0.0"), HasSubstr("not looked for yet")));
  const std::string plan = Type("plan");
  EXPECT_THAT(plan, AllOf(HasSubstr("KV cache"), HasSubstr("a token reads "), HasSubstr("by the screen")));
  EXPECT_THAT(Type("info"),
              AllOf(HasSubstr("SIM"), HasSubstr("4bit-40"), HasSubstr("stories.gguf"), HasSubstr("in 1 piece")));
  Type("set head full");
  EXPECT_THAT(Type("plan"), HasSubstr("by a scan of all rows"));
}

// docs/board.md: where a card keeps the board from starting.
TEST_F(ConsoleTest, ACardThatIsPutInAfterTheStartIsRead) {
  slot_->Insert(nullptr, 0);
  Start();
  EXPECT_THAT(Type("ls"), HasSubstr("error: "));
  slot_->Insert(faulty_.get(), 1);
  EXPECT_THAT(Type("ls"), HasSubstr("stories.gguf"));
  EXPECT_THAT(Type(std::string("run ") + kStory), HasSubstr(" tokens, "));
}

TEST_F(ConsoleTest, WithoutACardTheModelInFlashTellsAStory) {
  TemporaryFolder folder;
  const std::string gguf = folder / "flash.gguf";
  ASSERT_NO_FATAL_FAILURE(MakeFlashModel(folder));
  ASSERT_EQ(RunTool({"flash-image", gguf, "--whole", "-o", folder / "model.img"}).exit_code, 0);
  std::string image = ReadFile(folder / "model.img");
  image.resize(static_cast<size_t>(kEsp32Cam.model_partition_bytes), '\xff');
  Type("set temp 0");
  Type("set predict 6");
  storage::BlockDevice* const card = slot_->contents();
  slot_->Insert(nullptr, 2);
  Start();
  board_->FlashModel(std::as_bytes(std::span(image)));
  console_->TellStoryWithoutCard();
  EXPECT_THAT(board_->output(), AllOf(HasSubstr("There is no card"), HasSubstr("model flash.gguf"),
                                      HasSubstr("in flash\n"), HasSubstr("[6 tokens")));
  Type("run");
  EXPECT_THAT(Type("/bye"), "");
  EXPECT_THAT(Type("ls"), HasSubstr("* flash.gguf"));
  EXPECT_THAT(Type("info"), AllOf(HasSubstr("not looked for yet"), HasSubstr("in 1 piece in flash")));
  EXPECT_THAT(Type("use other.gguf"), HasSubstr("there is no card, and flash has no model 'other.gguf'"));
  // The text is the tool's.
  const ToolRun tool = RunTool({"run", "-m", gguf, "-p", kStory, "-n", "6", "--temp", "0", "--json"});
  ASSERT_EQ(tool.exit_code, 0) << tool.error;
  EXPECT_THAT(Made(Type(std::string("run ") + kStory)), EndsWith(std::string(nlohmann::json::parse(tool.out)["text"])));
  // A card that is put in is taken.
  slot_->Insert(card, 1);
  EXPECT_THAT(Type("use stories.gguf"), HasSubstr("model stories.gguf, 1 layer, vocabulary 2240, card 4bit-40"));
}

TEST_F(ConsoleTest, FlashWithoutAModelIsNoCard) {
  slot_->Insert(nullptr, 2);
  for (const char fill : {'\xff', '\0', '\x55'}) {
    const std::string partition(static_cast<size_t>(kEsp32Cam.model_partition_bytes), fill);
    Start();
    const std::string before = Type("run a");
    EXPECT_THAT(before, HasSubstr("error: "));
    board_->FlashModel(std::as_bytes(std::span(partition)));
    board_->ClearOutput();
    console_->TellStoryWithoutCard();
    EXPECT_EQ(board_->output(), "");
    EXPECT_EQ(Type("run a"), before);
  }
}

TEST_F(ConsoleTest, ADamagedModelInFlashIsToldOf) {
  TemporaryFolder folder;
  ASSERT_NO_FATAL_FAILURE(MakeFlashModel(folder));
  ASSERT_EQ(RunTool({"flash-image", folder / "flash.gguf", "--whole", "-o", folder / "model.img"}).exit_code, 0);
  std::string image = ReadFile(folder / "model.img");
  const size_t magic = image.find("GGUF", image.find("GGUF") == image.rfind("GGUF") ? 0 : 8192);
  ASSERT_NE(magic, image.npos);
  image[magic] = 'g';
  slot_->Insert(nullptr, 2);
  Start();
  board_->FlashModel(std::as_bytes(std::span(image)));
  EXPECT_THAT(Type("run a"), AllOf(HasSubstr("error: "), Not(HasSubstr("no card"))));
}

TEST_F(ConsoleTest, ListsAndChoosesModels) {
  EXPECT_THAT(Type("ls"), HasSubstr("  stories.gguf\n"));
  EXPECT_THAT(Type("use stories.gguf"), HasSubstr("model stories.gguf"));
  EXPECT_THAT(Type("ls"), HasSubstr("* stories.gguf\n"));
  EXPECT_THAT(Type("use other.gguf"), HasSubstr("no model other.gguf"));
  EXPECT_EQ(board_->settings["model"], "stories.gguf");
  EXPECT_THAT(Type("use"), HasSubstr("so: use MODEL"));
  slot_->Insert(nullptr, 0);
  Start();
  EXPECT_THAT(Type("ls"), HasSubstr("error: "));
}

TEST_F(ConsoleTest, AModelWithoutTextsShowsIds) {
  const TemporaryFolder folder;
  for (const bool is_damaged : {true, false}) {
    SCOPED_TRACE(is_damaged);
    const std::string gguf = folder / "ids.gguf", image = folder / "ids.img";
    ASSERT_EQ(RunTool({"synth", "small", "-o", gguf}).exit_code, 0);
    std::string bytes = ReadFile(gguf);
    const std::string key = is_damaged ? "tokenizer.ggml.token_type" : "tokenizer.ggml.model";
    const size_t at = bytes.find(key);
    ASSERT_NE(at, bytes.npos);
    if (is_damaged) bytes[at + key.size() + 16 + 4 * 300] = 77;
    if (!is_damaged) bytes.replace(at + key.size() + 12, 5, "other");
    WriteFile(gguf, bytes);
    const auto card = host::WriteCardImage({.contents = {.model = gguf}, .out = image, .superfloppy = true});
    ASSERT_TRUE(card) << card.error();
    const auto device = *host::FileDevice::Open(image);
    slot_->Insert(device.get(), 1);
    Start();
    Type("set n 3");
    const std::string refused = Type("run a");
    const std::string reason = is_damaged ? "the type of token 300" : "type other";
    EXPECT_THAT(refused, AllOf(HasSubstr("note: "), HasSubstr(reason), HasSubstr(": tokens are shown as ids"),
                               HasSubstr("error: ")));
    Type("run");
    EXPECT_THAT(Type(""), HasSubstr("[3 tokens"));
    Type("/bye");
  }
}

TEST_F(ConsoleTest, MeasurementsMakeABoardFile) {
  board_->us_per_look = 3;
  board_->machine_info.is_simulated = false;
  std::string log = Type("bench");
  EXPECT_THAT(log, Not(HasSubstr("error")));
  // A simulated clock tells nothing of reads: longer ones must take longer.
  std::string mended;
  for (size_t at = 0; at < log.size(); at = log.find('\n', at) + 1) {
    std::string line = log.substr(at, log.find('\n', at) - at);
    if (line.starts_with("thimble: read 65536")) line = line.substr(0, line.rfind(' ')) + " 4000";
    mended += line + "\n";
  }
  const auto board = host::BoardFromLog(mended, "the terminal");
  ASSERT_TRUE(board) << board.error() << mended;
  EXPECT_EQ(board->name, "esp32-cam-measured");
  EXPECT_TRUE(board->is_calibrated());
  for (const char* cost : {"card.4bit-40.command_us", "card.random_us", "psram.line_us", "psram.write_us"}) {
    EXPECT_EQ(board->costs.count(cost), 1u) << cost;
  }
  for (const CardRung& rung : kCardRungs) {
    const std::string mode = "card_mode 4bit-40";
    std::string other = mended;
    other.replace(other.find(mode), mode.size(), std::string("card_mode ") + rung.name);
    const auto in_this_way = host::BoardFromLog(other, "the terminal");
    EXPECT_TRUE(in_this_way) << in_this_way.error();
  }
  for (size_t k = 0; k < kNumKernels; ++k) {
    const std::string key = std::string("kernel.") + KernelName(static_cast<Kernel>(k)) + "_cycles";
    EXPECT_THAT(log, HasSubstr("thimble: cost " + key + " ")) << key;
  }
  EXPECT_THAT(Type("bench flash"), HasSubstr("no partition for weights"));
  EXPECT_THAT(Type("bench everything"), HasSubstr("so: bench"));
  EXPECT_THAT(Type("bench token"), AllOf(HasSubstr("token 8: "), HasSubstr("read from the card: ")));
  for (const Arena& arena : board_->arenas()) EXPECT_LE(arena.used_bytes(), arena.capacity_bytes());
}

size_t Count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST_F(ConsoleTest, TheDoctorFindsNothingWrongWithASoundBoard) {
  const std::string said = Type("doctor");
  EXPECT_THAT(said, AllOf(HasSubstr("nothing wrong was found"), HasSubstr("4031 KiB tested"), HasSubstr("4bit-40"),
                          HasSubstr("18 tests right")));
}

TEST_F(ConsoleTest, TheDoctorSaysWhatIsWrong) {
  board_->machine_info.browned_out = true;
  board_->machine_info.reset_reason = "brown-out";
  board_->pins = {{0, true}, {2, false}, {12, true}};
  slot_->good_4bit_khz = 20000;
  const std::string said = Type("doctor");
  EXPECT_THAT(said, AllOf(HasSubstr("5 V, 1 A"), HasSubstr("GPIO12"), Not(HasSubstr("GPIO0 was")),
                          HasSubstr("chosen: 4bit-20"), HasSubstr("clean its contacts"),
                          HasSubstr("4 things are wrong")));  // the supply, and three ways of reading the card
  slot_->Insert(nullptr, 0);
  EXPECT_THAT(Type("doctor"), AllOf(HasSubstr("Is a card in the slot"), HasSubstr("2 things are wrong")));
}

TEST_F(ConsoleTest, TheDoctorCountsWhateverItSaysIsWrong) {
  const auto counted = [&] {
    const std::string said = Type("doctor");
    const size_t marks = Count(said, "WRONG");
    const std::string end = marks == 0   ? "nothing wrong was found\n"
                            : marks == 1 ? "1 thing is wrong\n"
                                         : std::to_string(marks) + " things are wrong\n";
    EXPECT_THAT(said, EndsWith(end));
    return marks;
  };
  EXPECT_EQ(counted(), 0u);
  slot_->has_1bit = false;  // what a slot does not have is no failure
  EXPECT_EQ(counted(), 0u);
  slot_->has_1bit = true;
  slot_->good_1bit_khz = 20000;
  EXPECT_EQ(counted(), 1u);
  // Nothing but the last resort answers.
  slot_->good_4bit_khz = slot_->good_1bit_khz = 0;
  EXPECT_EQ(counted(), 6u);
  board_->machine_info.browned_out = true;
  EXPECT_EQ(counted(), 7u);
  board_->machine_info.psram_bytes = 0;
  EXPECT_EQ(counted(), 8u);
  slot_->Insert(nullptr, 0);
  EXPECT_EQ(counted(), 3u);
  Start(kEsp32);  // a board that has no PSRAM
  slot_->good_4bit_khz = slot_->good_1bit_khz = 40000;
  slot_->Insert(faulty_.get(), 2);
  EXPECT_EQ(counted(), 0u);
  slot_->Insert(faulty_.get(), 3);  // another card than before
  EXPECT_EQ(counted(), 0u);
}

TEST_F(ConsoleTest, TheDoctorTellsHowLongASectorTakes) {
  slot_->command_us = 400;
  slot_->sector_us = 26;
  slot_->random_us = 173;
  slot_->slow_us = 45000;
  slot_->slow_every = 50;
  board_->us_per_look = 1;
  const std::string said = Type("doctor");
  EXPECT_THAT(said, HasSubstr("a sector from anywhere 0.60 ms, at worst 45.60 ms\n"));  // 4 bits, 40 MHz
  EXPECT_THAT(said, HasSubstr("a sector from anywhere 0.67 ms, at worst 45.67 ms\n"));  // 1 bit, 40 MHz
  EXPECT_THAT(said, HasSubstr("note: now and then this card takes 45 ms for a sector"));
  EXPECT_THAT(said, HasSubstr("nothing wrong was found"));
  slot_->slow_every = 0;
  EXPECT_THAT(Type("doctor"), Not(HasSubstr("note: now and then")));
}

TEST_F(ConsoleTest, TheDoctorsReportIsABoardFile) {
  flash_ =
      std::make_unique<host::NorFlash>(static_cast<size_t>(storage::FlashBytes(kEsp32Cam.capacity(Region::kFlash))));
  Board board = kEsp32Cam;
  board.capacity_bytes[static_cast<size_t>(Region::kSram)] = 58368;
  board.tile_buffer_bytes = 48 * 1024;
  Start(board);
  slot_->command_us = 400;
  slot_->sector_us = 26;
  slot_->random_us = 173;
  board_->us_per_look = 1;
  board_->machine_info.chip = "ESP32";
  board_->machine_info.revision = 301;
  board_->machine_info.sdk = "an \"SDK\\";
  board_->machine_info.is_simulated = false;
  const std::string report = Type("doctor --report");
  EXPECT_THAT(report, AllOf(HasSubstr("nothing wrong was found"), HasSubstr("--board capture.txt"),
                            Not(HasSubstr("not measured"))));
  const auto file = host::BoardFileIn(report, "CAPTURE");
  ASSERT_TRUE(file) << file.error();
  const auto parsed = host::ParseBoardProfile(*file, "CAPTURE");
  ASSERT_TRUE(parsed) << parsed.error() << report;
  EXPECT_EQ(parsed->name, "esp32-cam-measured");
  EXPECT_THAT(parsed->description, AllOf(HasSubstr("ESP32 revision 3.1, an \"SDK\\"), HasSubstr("card SIM")));
  EXPECT_EQ(parsed->memory.capacity_bytes, board_->board().capacity_bytes);
  EXPECT_EQ(parsed->memory.capacity(Region::kSram), 58368u);
  EXPECT_EQ(parsed->memory.tile_buffer_bytes, 48u * 1024);
  EXPECT_EQ(parsed->memory.dma_align, kEsp32Cam.dma_align);
  EXPECT_EQ(parsed->cores, 1u);
  EXPECT_EQ(parsed->cpu_mhz, 240u);
  EXPECT_EQ(parsed->card_mode, "4bit-40");
  // As the slot and the clock are: each look at the clock is a microsecond of the command's.
  const auto is = [&](const char* key, double value) {
    const host::Cost& cost = parsed->costs.at(key);
    EXPECT_EQ(cost.low, value) << key;
    EXPECT_EQ(cost.typical, value) << key;
    EXPECT_EQ(cost.high, value) << key;
    EXPECT_EQ(cost.confidence, host::Confidence::kCalibrated) << key;
  };
  is("card.4bit-40.sector_us", 26);
  is("card.4bit-40.command_us", 401);
  is("card.random_us", 173);
  is("psram.line_us", 0);  // one look for 8192 lines, 1024 times
  // What bench prints of the same board makes the same constants.
  const auto logged = host::BoardFromLog(Type("bench"), "LOG");
  ASSERT_TRUE(logged) << logged.error();
  size_t measured = 0;
  for (const auto& [key, cost] : logged->costs) {
    if (cost.confidence != host::Confidence::kCalibrated) continue;
    ++measured;
    const host::Cost& reported = parsed->costs.at(key);
    EXPECT_EQ(reported.confidence, host::Confidence::kCalibrated) << key;
    EXPECT_NEAR(reported.low, cost.low, 5e-4) << key;
    EXPECT_NEAR(reported.typical, cost.typical, 5e-4) << key;
    EXPECT_NEAR(reported.high, cost.high, 5e-4) << key;
  }
  EXPECT_EQ(measured, 6 + kNumKernels);
  for (const auto& [key, cost] : parsed->costs) {
    EXPECT_EQ(cost.confidence == host::Confidence::kCalibrated,
              logged->costs.at(key).confidence == host::Confidence::kCalibrated)
        << key;
  }
  for (const Arena& arena : board_->arenas()) EXPECT_EQ(arena.used_bytes(), 0u);
}

// As somebody with a board does it: the terminal's capture is the board.
TEST_F(ConsoleTest, ATerminalsCaptureIsABoardThatTheToolSimulates) {
  slot_->command_us = 400;
  slot_->sector_us = 26;
  board_->machine_info.is_simulated = false;
  std::string capture = "rst:0x1 (POWERON_RESET)\r\n";
  board_->interrupt_after_looks = board_->looks() + 2000;
  const std::string broken = Type("doctor --report");
  board_->interrupt_after_looks = SimulatedSlot::kNever;
  EXPECT_THAT(broken, AllOf(HasSubstr("--- thimble board file ---"), Not(HasSubstr("--- end of"))));
  const auto whole = [&] { return Type("doctor --report"); };
  for (const char c : broken + whole() + "thimble> ") capture += c == '\n' ? "\r\n" : std::string(1, c);
  WriteFile(*folder_ / "capture.txt", capture);
  const ToolRun tool = RunTool({"simulate", *folder_ / "stories.gguf", "--board", *folder_ / "capture.txt", "-n", "2"});
  EXPECT_EQ(tool.exit_code, 0) << tool.error;
  EXPECT_THAT(tool.out, AllOf(HasSubstr("esp32-cam-measured"), HasSubstr("measured")));
  WriteFile(*folder_ / "broken.txt", broken);
  const ToolRun refused = RunTool({"boards", *folder_ / "broken.txt"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.error, HasSubstr("the board's report is not whole"));
}

// Whatever becomes of them, figures of a program that plays a board are never called measured.
TEST_F(ConsoleTest, ASimulatedBoardsFiguresAreNeverCalledMeasured) {
  slot_->command_us = 400;
  slot_->sector_us = 26;
  const std::string model = *folder_ / "stories.gguf", file = *folder_ / "capture.txt", log = *folder_ / "bench.txt";
  WriteFile(file, Type("doctor --report"));
  WriteFile(log, Type("bench"));
  const ToolRun from_log = RunTool({"boards", "--from-log", log});
  ASSERT_EQ(from_log.exit_code, 0) << from_log.error;
  WriteFile(*folder_ / "mine.json", from_log.out);
  for (const std::string& board : {file, *folder_ / "mine.json"}) {
    const ToolRun shown = RunTool({"boards", board});
    EXPECT_THAT(shown.out,
                AllOf(HasSubstr("esp32-cam-simulated"), HasSubstr(" simulated "), Not(HasSubstr("calibrated"))));
    const ToolRun tool = RunTool({"simulate", model, "--board", board, "-n", "2"});
    EXPECT_EQ(tool.exit_code, 0) << tool.error;
    EXPECT_THAT(tool.out, AllOf(HasSubstr("modelled  with constants of a simulated board, measured on no board"),
                                Not(HasSubstr("measured constants"))));
    EXPECT_THAT(RunTool({"simulate", model, "--board", board, "-n", "2", "--json"}).out,
                HasSubstr("\"constants\":\"simulated constants\""));
  }
}

TEST_F(ConsoleTest, AReportWithoutACardSaysSo) {
  slot_->Insert(nullptr, 0);
  const std::string report = Type("doctor --report");
  EXPECT_THAT(report, AllOf(HasSubstr("1 thing is wrong"), HasSubstr("not measured: card"),
                            Not(HasSubstr("\"card_mode\"")), Not(HasSubstr("card.random_us"))));
  const auto file = host::BoardFileIn(report, "CAPTURE");
  ASSERT_TRUE(file) << file.error();
  const auto parsed = host::ParseBoardProfile(*file, "CAPTURE");
  EXPECT_TRUE(parsed) << parsed.error();
  EXPECT_THAT(Type("doctor --all"), "so: doctor [--report]\n");
}

TEST_F(ConsoleTest, AnErrorInATextBeginsALine) {
  Type("set temp 0");
  Type("set predict 10");
  Type("set head full");  // which reads the card for every token
  Type("plan");
  board_->ClearOutput();
  const uint64_t before = slot_->reads();
  console_->Execute(std::string("run ") + kStory);
  const uint64_t reads = slot_->reads() - before;
  int in_text = 0;
  for (uint64_t after = reads / 4; after < reads; after += reads / 12) {
    Start();
    slot_->Insert(faulty_.get(), 1);
    Type("plan");
    slot_->pulled_after = slot_->reads() + after;
    const std::string said = Type(std::string("run ") + kStory);
    slot_->pulled_after = SimulatedSlot::kNever;
    const size_t at = said.find("error: ");
    if (at == said.npos || at == 0) continue;
    ++in_text;
    EXPECT_EQ(said[at - 1], '\n') << said;
    EXPECT_THAT(said, Not(HasSubstr("\n\nerror"))) << said;
  }
  EXPECT_GT(in_text, 3);
}

TEST_F(ConsoleTest, CountsWhatWasBroughtBack) {
  Type("set temp 0");
  Type("set predict 2");
  Type("run x");
  EXPECT_THAT(Type("info"), HasSubstr("0 reads made again, brought back 0 times\n"));
  slot_->io_failures = 1;
  Type("run x");
  EXPECT_THAT(Type("info"), HasSubstr("1 read made again, brought back 0 times\n"));
  slot_->Insert(nullptr, 0);
  EXPECT_THAT(Type("run x"), HasSubstr("error: "));
  EXPECT_THAT(Type("info"), HasSubstr("brought back 0 times\n"));
  slot_->Insert(faulty_.get(), 1);
  EXPECT_THAT(Type("run x"), HasSubstr("[2 tokens"));
  EXPECT_THAT(Type("info"), HasSubstr("brought back 1 time\n"));
}

TEST_F(ConsoleTest, EventsAreATraceThatViewersRead) {
  EXPECT_THAT(Type("events"), HasSubstr("nothing was kept"));
  Type("set predict 3");
  Type("run x");
  EXPECT_THAT(Type("events"), HasSubstr("nothing was kept"));
  EXPECT_EQ(Type("events on"), "");
  Type("run x");
  const std::string trace = Type("events");
  const auto json = nlohmann::json::parse(trace, nullptr, /*allow_exceptions=*/false);
  ASSERT_FALSE(json.is_discarded()) << trace.substr(0, 500);
  int reads = 0, work = 0;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] != "X") continue;
    EXPECT_GE(event["dur"].get<int64_t>(), 0);
    (event["name"] == "read" ? reads : work) += 1;
  }
  EXPECT_GT(reads, 3);
  EXPECT_GT(work, 10);
  EXPECT_THAT(Type("events maybe"), HasSubstr("so: events"));
}

TEST_F(ConsoleTest, WeightsGoToFlashOnceWithProgress) {
  flash_ =
      std::make_unique<host::NorFlash>(static_cast<size_t>(storage::FlashBytes(kEsp32Cam.capacity(Region::kFlash))));
  // So little PSRAM that the screen goes to flash.
  Board board = kEsp32Cam;
  board.capacity_bytes[static_cast<size_t>(Region::kPsram)] = 400 * 1024;
  Start(board);
  Type("set temp 0");
  Type("set predict 8");
  const std::string first = Type(std::string("run ") + kStory);
  EXPECT_THAT(first, AllOf(HasSubstr("to flash: once"), HasSubstr("flash: 50 %"), HasSubstr("flash: 100 %"),
                           HasSubstr("[8 tokens")));
  const uint64_t erased = flash_->erased();
  EXPECT_GT(erased, 10u);
  Start(board);
  EXPECT_THAT(Type(std::string("run ") + kStory), AllOf(Not(HasSubstr("flash: ")), HasSubstr("[8 tokens")));
  for (const char* line : {"set temp 1", "set top-k 5", "set min-p 0", "set seed 3"}) {
    Type(line);
    EXPECT_THAT(Type("run x"), HasSubstr("[8 tokens")) << line;
  }
  EXPECT_EQ(flash_->erased(), erased) << "another temperature is no other plan";
  EXPECT_THAT(Type("bench flash"), HasSubstr("thimble: cost flash.line_us "));
}

TEST_F(ConsoleTest, ALossOfPowerWhileFlashIsWrittenIsGoneOnFrom) {
  flash_ =
      std::make_unique<host::NorFlash>(static_cast<size_t>(storage::FlashBytes(kEsp32Cam.capacity(Region::kFlash))));
  Start();
  Type("set temp 0");
  Type("set predict 8");
  const std::string whole = Type(std::string("run ") + kStory);
  const uint64_t erased = flash_->erased();
  for (const uint64_t calls : {3u, 40u, 120u}) {
    flash_ = std::make_unique<host::NorFlash>(flash_->memory().size());
    Start();
    flash_->CutPowerAfter(calls, 1);
    EXPECT_THAT(Type(std::string("run ") + kStory), HasSubstr("error: the flash has no power"));
    flash_->PowerUp();
    Start();
    EXPECT_EQ(Made(Type(std::string("run ") + kStory)), Made(whole));
    EXPECT_LE(flash_->erased(), erased + 2);
  }
}

// The simulated flash and PSRAM are out of reach while flash is written: that a model comes there with two cores, and
// its text is the same, says that nobody touches either then.
TEST_F(ConsoleTest, NobodyTouchesPsramOrFlashWhileFlashIsWritten) {
  const std::string without = Made(Type(std::string("run ") + kStory));
  flash_ =
      std::make_unique<host::NorFlash>(static_cast<size_t>(storage::FlashBytes(kEsp32Cam.capacity(Region::kFlash))));
  ThreadWorkers threads;
  SimulatedCores cores(&threads);
  cores_ = &cores;
  Start();
  EXPECT_EQ(Made(Type(std::string("run ") + kStory)), without);
  EXPECT_GT(flash_->programmed(), 80u);
}

TEST_F(ConsoleTest, WhoeverTouchesPsramOrFlashWhileFlashIsWrittenIsFoundOut) {
  flash_ =
      std::make_unique<host::NorFlash>(static_cast<size_t>(storage::FlashBytes(kEsp32Cam.capacity(Region::kFlash))));
  SimulatedCores cores;
  cores_ = &cores;
  Start();
  storage::Flash& flash = *board_->flash();
  const std::span<std::byte> psram = *ArenaOf(board_->arenas(), Region::kPsram).Take<std::byte>(64);
  const std::array<std::byte, 1> internal = {};
  EXPECT_TRUE(flash.Program(0, internal));
  EXPECT_EQ(flash.memory()[0], std::byte{0});

  // What is to be written is read meanwhile.
  static constexpr std::array<std::byte, 1> kConstant = {};
  for (const std::span<const std::byte> elsewhere :
       {std::span<const std::byte>(psram), flash.memory().first(8), std::span<const std::byte>(kConstant)}) {
    const Result<void> written = flash.Program(1, elsewhere);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code, Code::kInvalidArgument);
  }
  // Another core computes.
  struct Attempt {
    storage::Flash* flash;
    mutable bool was_written = true;
  };
  const Attempt attempt = {.flash = &flash};
  cores.Run(
      1,
      [](const void* context, uint32_t, uint32_t) {
        const auto& tried = *static_cast<const Attempt*>(context);
        tried.was_written = tried.flash->EraseSector(0).has_value();
      },
      &attempt);
  EXPECT_FALSE(attempt.was_written);
  // Somebody reads PSRAM or flash, or writes to them.
  for (std::byte* const place : {psram.data(), const_cast<std::byte*>(flash.memory().data())}) {
    volatile std::byte* const touched = place;
    board_->on_flash_writing = [touched] { static_cast<void>(*touched); };
    EXPECT_DEATH(static_cast<void>(flash.Program(1, internal)), "");
    board_->on_flash_writing = [touched] { *touched = std::byte{1}; };
    EXPECT_DEATH(static_cast<void>(flash.Program(1, internal)), "");
  }
  board_->on_flash_writing = nullptr;
  EXPECT_DEATH(*const_cast<volatile std::byte*>(flash.memory().data()) = std::byte{1}, "") << "flash is no memory";
  EXPECT_TRUE(flash.Program(1, internal));
}

TEST_F(ConsoleTest, WhateverIsTypedHasAnAnswer) {
  std::mt19937 random(3);
  const std::vector<std::string> pieces = {"run", "set",  "use",  "plan", " ",  "  ",   "\"",       "\\", "temp", "-1",
                                           "x",   "/bye", "/set", "help", "\t", "\x01", "\xc3\xa9", "?",  "0.8",  "ls"};
  Type("set predict 1");
  for (int i = 0; i < 400; ++i) {
    std::string line;
    for (auto n = random() % 6; n > 0; --n) line += pieces[random() % pieces.size()] + (random() % 2 ? " " : "");
    console_->Execute(line);
  }
  Type("/bye");
  EXPECT_THAT(Type("help"), HasSubstr("doctor"));
}

// Of the task that runs it: what a session has, and the console's own.
TEST_F(ConsoleTest, FitsItsStack) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's frames are larger";
  flash_ =
      std::make_unique<host::NorFlash>(static_cast<size_t>(storage::FlashBytes(kEsp32Cam.capacity(Region::kFlash))));
  Start();
  Type("set predict 5");
  size_t most = 0;
  for (const char* line :
       {"ls", "use stories.gguf", "run Once upon a time", "plan", "info", "set", "set temp 0.5", "events on",
        "bench token", "events", "bench", "doctor", "doctor --report", "run", "Once", "/set temp 0", "", "/bye"}) {
    const size_t used = StackOf([&] { console_->Execute(line); });
    EXPECT_LE(used, plan::kStackBytes + Console::kStackBytes) << line;
    most = std::max(most, used);
  }
  RecordProperty("bytes", static_cast<int>(most));
  EXPECT_THAT(Type("run x"), HasSubstr("[5 tokens"));
}

}  // namespace
}  // namespace thimble::firmware
