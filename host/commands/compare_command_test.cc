// thimble compare and convert --quant auto, as a shell sees them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "host/commands/command.h"
#include "tests/support/checkpoints.h"
#include "tests/support/tool.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kModel[] = "model/thimble-stories";

class CompareTest : public testing::Test {
 protected:
  std::string Ok(const std::vector<std::string>& arguments) const {
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.error;
    return run.out;
  }
  json Json(std::vector<std::string> arguments) const {
    arguments.emplace_back("--json");
    return json::parse(Ok(arguments), nullptr, false);
  }
  // The text that the model writes, and enough of it.
  std::string WriteText(const std::string& model = kModel) const {
    const std::string path = folder_ / "text.txt";
    std::string text;
    for (const char* seed : {"1", "2", "3", "4"}) {
      text += Json({"run", "-m", model, "-p", "One day", "-n", "180", "--temp", "1", "-s", seed})["text"];
    }
    WriteFile(path, text);
    return path;
  }
  // In 16 bits, with as many positions as the bundled one; an index of it is made in a seventh of the time.
  std::string SmallModel() const {
    const std::string path = folder_ / "small.gguf";
    Ok({"synth", "small", "--shape", "head_dim=32,max_position_embeddings=512", "--head", "story", "-o", path});
    return path;
  }

  TemporaryFolder folder_;
};

std::vector<std::string> Refused(const ToolRun& run) {
  EXPECT_EQ(run.exit_code, kExitFailed);
  EXPECT_EQ(run.out, "");
  std::vector<std::string> lines;
  for (size_t at = 0, end; (end = run.error.find('\n', at)) != run.error.npos; at = end + 1) {
    lines.push_back(run.error.substr(at, end - at));
  }
  return lines;
}

// Nothing is computed but what the commands that a user would go step by step with compute.
TEST_F(CompareTest, SaysWhatItsStepsSay) {
  const std::string model = SmallModel();
  const std::string text = WriteText(model);
  const json compared = Json({"compare", model, "-f", text, "--chunk", "64", "-n", "8", "--screen", "48,3"});
  ASSERT_EQ(compared["rows"].size(), 4u);
  EXPECT_EQ(compared["constants"], "published constants, measured on no board here");
  const std::vector<std::vector<std::string>> recipes = {
      {"--dtype", "f32"}, {}, {"--quant", "hybrid"}, {"--quant", "q8_0"}};
  std::vector<std::string> files;
  std::vector<uint64_t> sizes;
  for (size_t i = 0; i < recipes.size(); ++i) {
    const json& row = compared["rows"][i];
    const std::string file = folder_ / ("model" + std::to_string(i) + ".gguf");
    files.push_back(file);
    std::vector<std::string> convert = {"convert", model, "-o", file};
    convert.insert(convert.end(), recipes[i].begin(), recipes[i].end());
    Ok(convert);
    EXPECT_EQ(row["file_bytes"], ReadFile(file).size());
    sizes.push_back(row["file_bytes"]);

    const json quality =
        Json({"perplexity", "-m", file, "-f", text, "-c", "64", "--chunks", "32", "--kl-divergence", files[0]});
    for (const char* key : {"tokens", "ppl", "ppl_error", "base_ppl", "kld_mean", "kld_p99", "top_match", "rms_dp"}) {
      EXPECT_EQ(row[key], quality[key]) << row["stored"] << " " << key;
    }
    if (i < 2) {
      EXPECT_EQ(row["kld_mean"], 0);
      EXPECT_EQ(row["top_match"], 1);
    } else {
      EXPECT_GT(row["kld_mean"], 0);
    }

    Ok({"prepare", file, "--screen", "48,3"});
    std::string ids;
    const json all = json::parse(Ok({"tokenize", "-m", file, "-f", text, "--ids"}), nullptr, false);
    for (size_t id = 0; id < 16; ++id) ids += (id != 0 ? "," : "") + all[id].dump();
    for (const std::string head : {"full", "screen"}) {
      const json simulated = Json({"simulate", file, "--ids", ids, "-n", "8", "--temp", "0", "--head", head});
      const json& found = row[head == "full" ? "full" : "screened"];
      EXPECT_EQ(found["modelled_tok_per_s"], simulated["modelled"]["tok_per_s"]) << row["stored"] << " " << head;
      EXPECT_EQ(found["memory"], simulated["memory"]);
      double card_bytes = 0;
      for (const auto& [zone, values] : simulated["modelled"]["a_token_by_zone"].items()) {
        card_bytes += values["card_bytes"].get<double>();
      }
      EXPECT_NEAR(found["card_bytes"].get<double>(), card_bytes, 1e-6 * card_bytes);
      if (head == "screen") {
        EXPECT_EQ(found["screen"], simulated["screen"]);
      }
    }
  }
  EXPECT_TRUE(sizes[0] > sizes[1] && sizes[1] > sizes[2] && sizes[2] > sizes[3]) << testing::PrintToString(sizes);
}

TEST_F(CompareTest, SaysWhereRowsAreTheSameAndWhatTheBoardCannotDo) {
  // No number fits 16 bits, and no row is whole blocks of 32.
  const std::string model = folder_ / "odd.bin";
  Llama2cModel odd = Llama2cModel::Make({.vocab_size = 300,
                                         .hidden_size = 24,
                                         .intermediate_size = 40,
                                         .num_hidden_layers = 1,
                                         .num_attention_heads = 2,
                                         .num_key_value_heads = 1,
                                         .head_dim = 12,
                                         .max_position_embeddings = 32},
                                        true, 1);
  std::mt19937 random(1);
  std::uniform_real_distribution<float> value(-0.3f, 0.3f);
  for (auto& [name, bytes] : odd.tensors) {
    const size_t size = bytes.size();
    bytes.clear();
    while (bytes.size() < size) bytes += Bytes(value(random));
  }
  WriteFile(model, odd.File());
  const std::vector<std::string> compare = {"compare", model, "--chunks", "2", "-n", "4"};
  const json rows = Json(compare)["rows"];
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_FALSE(rows[0].contains("same_as"));
  for (size_t i = 1; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i]["same_as"], "float32");
    EXPECT_EQ(rows[i]["full"], rows[0]["full"]);
  }
  EXPECT_THAT(Ok(compare), AllOf(HasSubstr("| Q8_0           | the same as float32 |"), HasSubstr("modelled")));

  // A context that all have room for, unless one is asked for that is too large.
  const std::string small = SmallModel();
  const json fits = Json({"compare", small, "--board", "esp32", "--chunks", "1", "-n", "4", "--screen", "48,3"});
  EXPECT_LT(fits["n_ctx"], 512);
  for (const json& row : fits["rows"]) EXPECT_GT(row["full"]["modelled_tok_per_s"]["low"], 0);
  const ToolRun large =
      RunTool({"compare", small, "--board", "esp32", "--chunks", "1", "-n", "4", "--screen", "48,3", "-c", "512"});
  EXPECT_EQ(large.exit_code, 0);
  EXPECT_THAT(large.out,
              AllOf(HasSubstr("not on this board"), HasSubstr("float32, full scan: "), HasSubstr("lower ctx-size")));
}

// What is in Q8_0 already stays so; float32 is what its blocks stand for. A card will do.
TEST_F(CompareTest, TakesWhatIsQuantisedAndACard) {
  const std::string model = folder_ / "small.gguf";
  const std::string card = folder_ / "card.img";
  Ok({"convert", kModel, "-o", model, "--quant", "q8_0"});
  Ok({"card", model, "-o", card});
  const json rows = Json({"compare", card, "--chunks", "1", "-n", "4", "--screen", "48,3"})["rows"];
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0]["types"], "F32");
  EXPECT_EQ(rows[1]["stored"], "as it is");
  EXPECT_EQ(rows[1]["types"], "Q8_0");
  EXPECT_GT(rows[1]["kld_mean"], 0);
  EXPECT_EQ(rows[2]["same_as"], "as it is");
  EXPECT_EQ(rows[3]["same_as"], "as it is");
}

TEST_F(CompareTest, DrawsEachHead) {
  const std::string model = folder_ / "a<b>&.gguf";
  Ok({"synth", "small", "-o", model});
  const std::string plot = folder_ / "plot.svg";
  Ok({"compare", model, "--chunks", "2", "-n", "4", "--plot", plot});
  const std::string svg = ReadFile(plot);
  EXPECT_THAT(svg, AllOf(HasSubstr("<svg xmlns="), HasSubstr("a&lt;b&gt;&amp;.gguf on esp32-cam"),
                         HasSubstr("modelled"), HasSubstr("prefers-color-scheme: dark")));
  for (const char* point : {"<circle class=\"full\"", "<circle class=\"screened\""}) {
    size_t points = 0;
    for (size_t at = svg.find(point); at != svg.npos; at = svg.find(point, at + 1)) ++points;
    EXPECT_GE(points, 3u) << point;
  }
}

TEST_F(CompareTest, RefusesInOneSentence) {
  const std::string plot = folder_ / "none/plot.svg";
  EXPECT_THAT(Refused(RunTool({"compare", kModel, "--plot", plot})), ElementsAre(HasSubstr("none/plot.svg")));
  EXPECT_THAT(Refused(RunTool({"compare", folder_ / "none.gguf"})), ElementsAre(HasSubstr("none.gguf")));
  WriteFile(folder_ / "short.txt", "Once");
  EXPECT_THAT(Refused(RunTool({"compare", kModel, "-f", folder_ / "short.txt"})),
              ElementsAre(HasSubstr("give a longer text")));
  EXPECT_THAT(Refused(RunTool({"compare", kModel, "--board", "none"})), ElementsAre(HasSubstr("none")));
  EXPECT_THAT(Refused(RunTool({"compare", kModel, "--chunks", "1", "--card", "none"})), ElementsAre(HasSubstr("none")));
}

// The smaller the limit the more bytes; what is found is within the limit by the measuring command, too.
TEST_F(CompareTest, AutoFindsWhatIsWithinTheLimit) {
  const std::string text = WriteText();
  const std::string base = folder_ / "base.gguf";
  Ok({"convert", kModel, "-o", base});
  uintmax_t last = ReadFile(base).size() + 1;
  std::set<uintmax_t> sizes;
  for (const std::string limit : {"0", "0.0001", "0.0002", "1"}) {
    const std::string file = folder_ / "auto.gguf";
    const std::string said = Ok({"convert", kModel, "-o", file, "--quant", "auto", "--kld", limit, "--kld-text", text});
    const json quality =
        Json({"perplexity", "-m", file, "-f", text, "-c", "128", "--chunks", "16", "--kl-divergence", base});
    EXPECT_LE(quality["kld_mean"].get<double>(), std::stod(limit));
    char figure[32];
    std::snprintf(figure, sizeof(figure), "divergence %.6f of", quality["kld_mean"].get<double>());
    EXPECT_THAT(said, HasSubstr(figure));
    const uintmax_t size = ReadFile(file).size();
    EXPECT_LT(size, last) << limit;
    last = size;
    sizes.insert(size);
  }
  Ok({"convert", kModel, "-o", base, "--quant", "q8_0"});
  EXPECT_EQ(last, ReadFile(base).size());
  EXPECT_EQ(sizes.size(), 4u);

  // What a rule names stays as it says.
  const std::string said = Ok({"convert", kModel, "-o", base, "--quant", "auto", "--kld", "1", "--kld-text", text,
                               "--quant-tensor", "output.weight=f32"});
  EXPECT_THAT(said, HasSubstr("F32   float32 was asked for: output.weight"));
}

TEST_F(CompareTest, AutoRefusesInOneSentence) {
  const std::string out = folder_ / "out.gguf";
  EXPECT_THAT(Refused(RunTool({"convert", kModel, "-o", out, "--kld", "0.1"})), ElementsAre(HasSubstr("--quant auto")));
  EXPECT_THAT(Refused(RunTool({"convert", kModel, "-o", out, "--quant", "auto", "--kld-text", folder_ / "none"})),
              ElementsAre(HasSubstr("none")));
  EXPECT_THAT(Refused(RunTool({"convert", kModel, "-o", out, "--quant", "auto", "--to", "folder"})),
              ElementsAre(HasSubstr("a tensor folder is float32")));
  EXPECT_EQ(RunTool({"convert", kModel, "-o", out, "--quant", "auto", "--kld", "-1"}).exit_code, kExitUsage);
  EXPECT_THAT(folder_.Names(), IsEmpty());
}

}  // namespace
}  // namespace thimble::host
