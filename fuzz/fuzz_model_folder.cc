// Tensor folders: the flat JSON reader takes what nlohmann::json takes, with the same values, and the reader of folders
// refuses a configuration with a sentence or gives a model whose every number holds and whose files have the sizes that
// it asked for. The input: a model_config.json, a 0, a tokenizer.bin.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/arena.h"
#include "engine/formats/flat_json.h"
#include "engine/formats/model_folder.h"
#include "engine/text/tokenizer.h"
#include "host/devices/ram_device.h"
#include "host/support/utf8.h"

namespace thimble {
namespace {

using nlohmann::json;

constexpr uint32_t kUnit = 512;

void Require(bool holds) {
  if (!holds) std::abort();
}

void RequireSentence(const Error& error) {
  std::array<char, 300> text;
  const std::string_view sentence(text.data(), FormatError(error, text));
  Require(!sentence.empty());
  Require(error.code != Code::kInvalidArgument && error.code != Code::kIo);
}

// Bytes as a file that is read through a small buffer.
class File {
 public:
  explicit File(std::string_view bytes)
      : device_(std::as_bytes(std::span(bytes))),
        extent_{0, 0, device_.geometry().size_bytes},
        reader_(device_, {{&extent_, 1}, extent_.size_bytes}, ledger_),
        bytes_(reader_, buffer_) {}
  storage::ByteReader& bytes() { return bytes_; }

 private:
  host::RamDevice device_;
  storage::Extent extent_;
  Ledger ledger_;
  storage::FileReader reader_;
  alignas(64) std::array<std::byte, 1024> buffer_;
  storage::ByteReader bytes_;
};

void CompareMember(const formats::JsonMember& member, const json& value) {
  using Type = formats::JsonMember::Type;
  switch (member.type) {
    case Type::kNull:
      return Require(value.is_null());
    case Type::kFalse:
    case Type::kTrue:
      return Require(value.is_boolean() && value.get<bool>() == (member.type == Type::kTrue));
    case Type::kNumber: {
      Require(value.is_number());
      if (const auto number = member.Number()) {
        Require(std::bit_cast<uint64_t>(*number + 0.0) == std::bit_cast<uint64_t>(value.get<double>() + 0.0));
      }
      if (const auto integer = member.Integer()) Require(value == *integer);
      return;
    }
    case Type::kString:
      Require(value.is_string());
      return Require(member.text.is_cut ? value.get_ref<const std::string&>().starts_with(member.text.view())
                                        : value == member.text.view());
    case Type::kNested:
      return Require(value.is_structured());
  }
}

void CompareJson(std::string_view text) {
  File file(text);
  formats::FlatJsonReader reader(file.bytes(), text.size());
  std::vector<formats::JsonMember> members;
  formats::JsonMember member;
  Result<bool> found = reader.Next(member);
  for (; found && *found; found = reader.Next(member)) members.push_back(member);
  if (!found) RequireSentence(found.error().Named("it"));
  if (!found && found.error().code == Code::kUnsupported) return;  // limits that are ours

  // UTF-8 is not looked at here; nlohmann::json takes a NUL for the end, and refuses numbers beyond double.
  if (!host::IsUtf8(text) || text.find('\0') != text.npos) return;
  const json object = json::parse(text, nullptr, false);
  if (!found) return Require(!object.is_object());
  const bool may_be_huge = text.find_first_of("eE") != text.npos;
  if (object.is_discarded() && may_be_huge) return;
  Require(object.is_object());
  std::map<std::string, int> times;
  for (const formats::JsonMember& m : members) ++times[std::string(m.key.view())];
  for (const formats::JsonMember& m : members) {
    const std::string key(m.key.view());
    if (m.key.is_cut || times[key] > 1) continue;
    Require(object.contains(key));
    CompareMember(m, object[key]);
  }
}

void CheckModel(const formats::ModelFile& model, const formats::ModelFolder& files) {
  const ModelShape& shape = model.shape;
  Require(shape.vocab_size != 0 && shape.hidden_size != 0 && shape.intermediate_size != 0);
  Require(shape.num_hidden_layers != 0 && shape.max_position_embeddings != 0);
  Require(shape.num_key_value_heads != 0 && shape.num_attention_heads % shape.num_key_value_heads == 0);
  Require(shape.head_dim != 0 && shape.head_dim % 2 == 0);
  Require(uint64_t{shape.head_dim} * shape.num_attention_heads == shape.q_dim() && shape.q_dim() <= formats::kMaxWidth);
  Require(shape.rms_norm_eps > 0 && shape.rms_norm_eps <= std::numeric_limits<float>::max());
  Require(shape.rope_theta > 0 && shape.rope_theta <= std::numeric_limits<float>::max());
  Require(model.tensors.size() == TensorCount(shape));
  for (uint32_t i = 0; i < model.tensors.size(); ++i) {
    const TensorRef& tensor = model.tensors[i];
    const TensorDims dims = DimsOf(tensor.id.kind, shape);
    Require(tensor.id == TensorIdAt(i, shape) && tensor.rows == dims.rows && tensor.cols == dims.cols);
    Require(tensor.offset % kUnit == 0 && tensor.offset <= files.size_bytes());
    Require(tensor.size_bytes() <= files.size_bytes() - tensor.offset);
  }
  for (const TokenId id : {model.tokenizer.bos, model.tokenizer.eos, model.tokenizer.unk}) {
    Require(id == kNoToken || id < shape.vocab_size);
  }
}

// Adds the files that are asked for, one by one, until there is nothing to ask for any more.
void OpenAndUse(std::string_view config, std::string_view tokenizer) {
  alignas(kArenaAlign) static std::array<std::byte, 1 << 20> memory;
  constexpr uint32_t kLayers = 3;
  std::vector<formats::FolderFile> slots(formats::FolderFileCount(kLayers));
  formats::ModelFolder files(slots);
  std::string contents(config);
  contents.resize((contents.size() + kUnit - 1) / kUnit * kUnit);
  contents += tokenizer;
  Require(files.Add(formats::kFolderConfig, config.size(), kUnit).has_value());
  if (!tokenizer.empty()) Require(files.Add(formats::kFolderTokenizer, tokenizer.size(), kUnit).has_value());
  File file(contents);
  for (size_t i = 0; i <= slots.size(); ++i) {
    Arena arena(Region::kPsram, memory);
    const auto model = formats::OpenFolder(file.bytes(), files, arena);
    if (model) {
      CheckModel(*model, files);
      if (!model->tokenizer.present) return;
      const auto loaded = text::Tokenizer::Load(model->tokenizer, file.bytes(), arena);
      if (!loaded) return RequireSentence(loaded.error());
      for (TokenId id = 0; id < loaded->size(); ++id) Require(loaded->Piece(id).size() <= tokenizer.size());
      return;
    }
    RequireSentence(model.error());
    Require(arena.used_bytes() == 0);
    const auto number = formats::FolderFileNumber(model.error().name);
    const bool asks_for_file = model.error().code == Code::kNotFound && number && model.error().need != 0;
    if (!asks_for_file || !files.Add(*number, model.error().need, kUnit)) return;
  }
}

}  // namespace
}  // namespace thimble

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  thimble::CompareJson(input);
  thimble::CompareJson(input.substr(0, end));
  thimble::OpenAndUse(input.substr(0, end), input.substr(std::min(end + 1, size)));
  return 0;
}
