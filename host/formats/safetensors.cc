#include "host/formats/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "host/support/foreign_file.h"
#include "host/support/input_file.h"
#include "host/support/json_text.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

struct DtypeBits {
  std::string_view name;
  uint64_t bits;
};
constexpr std::array<DtypeBits, 19> kDtypes = {{{"BOOL", 8},
                                                {"U8", 8},
                                                {"I8", 8},
                                                {"F8_E5M2", 8},
                                                {"F8_E4M3", 8},
                                                {"F8_E8M0", 8},
                                                {"F6_E2M3", 6},
                                                {"F6_E3M2", 6},
                                                {"F4", 4},
                                                {"U16", 16},
                                                {"I16", 16},
                                                {"F16", 16},
                                                {"BF16", 16},
                                                {"U32", 32},
                                                {"I32", 32},
                                                {"F32", 32},
                                                {"U64", 64},
                                                {"I64", 64},
                                                {"F64", 64}}};

// Takes the document event by event, so that what a hostile header makes us keep is bounded by its own length.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(uint64_t data_offset, uint64_t data_bytes, const std::string& path)
      : path_(path), data_offset_(data_offset), data_bytes_(data_bytes) {}

  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("true or false"); }
  bool number_integer(number_integer_t) override { return Unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return Unexpected("a number that is not whole"); }
  bool binary(binary_t&) override { return Unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      entry_.shape.push_back(value);
      if (entry_.shape.size() <= kMaxDims) return true;
      return Stop(fmt::format("tensor {} has more than {} dimensions", Quote(name_), kMaxDims));
    }
    if (place_ == Place::kOffsets && offsets_.size() < 2) {
      offsets_.push_back(value);
      return true;
    }
    return Unexpected("a number");
  }

  bool string(string_t& text) override {
    if (place_ == Place::kDtype) {
      entry_.dtype = text;
      place_ = Place::kTensor;
      return true;
    }
    return place_ == Place::kMetadata || Unexpected("a text");
  }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kMetadataValue:
        place_ = Place::kMetadata;
        return true;
      case Place::kTensorValue:
        place_ = Place::kTensor;
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool key(string_t& text) override {
    if (place_ == Place::kTop) {
      name_ = text;
      entry_ = {};
      offsets_.clear();
      keys_.clear();
      if (entries_.contains(text) || (text == kMetadataKey && has_metadata_)) {
        return Stop(fmt::format("the key \"{}\" stands there twice", Quote(text)));
      }
      has_metadata_ |= text == kMetadataKey;
      place_ = text == kMetadataKey ? Place::kMetadataValue : Place::kTensorValue;
      return true;
    }
    if (!keys_.insert(text).second) {
      return Stop(fmt::format("{} has the key \"{}\" twice", Quote(name_), Quote(text)));
    }
    if (place_ == Place::kMetadata) return true;
    if (text == "dtype") {
      place_ = Place::kDtype;
    } else if (text == "shape") {
      place_ = Place::kShapeValue;
    } else if (text == "data_offsets") {
      place_ = Place::kOffsetsValue;
    } else {
      return Stop(fmt::format("tensor {} has the unknown key \"{}\"", Quote(name_), Quote(text)));
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kShapeValue) {
      place_ = Place::kShape;
    } else if (place_ == Place::kOffsetsValue) {
      place_ = Place::kOffsets;
    } else {
      return Unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    place_ = Place::kTensor;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      place_ = Place::kTop;
      return FinishTensor();
    }
    place_ = place_ == Place::kMetadata ? Place::kTop : Place::kEnd;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Stop(fmt::format("the header is not JSON: see byte {} of it", position));
  }

  Expected<SafetensorsEntries> Finish() {
    std::vector<const SafetensorsEntries::value_type*> by_offset;
    for (const auto& entry : entries_) by_offset.push_back(&entry);
    std::ranges::sort(by_offset, {},
                      [](const auto* entry) { return std::pair(entry->second.offset, entry->second.size_bytes); });
    uint64_t end = data_offset_;
    for (const auto* entry : by_offset) {
      if (entry->second.offset != end) {
        return Sentence(
            fmt::format("{}: tensor {} starts at byte {} of the data, but the one before it ends at byte {}", path_,
                        Quote(entry->first), entry->second.offset - data_offset_, end - data_offset_));
      }
      end += entry->second.size_bytes;
    }
    if (end != data_offset_ + data_bytes_) {
      return Sentence(fmt::format("{}: the tensors end at byte {} of the data, the file at byte {}", path_,
                                  end - data_offset_, data_bytes_));
    }
    return std::move(entries_);
  }

  const std::string& sentence() const { return sentence_; }

 private:
  static constexpr size_t kMaxDims = 16;
  static constexpr std::string_view kMetadataKey = "__metadata__";

  enum class Place {
    kStart,
    kTop,
    kMetadataValue,
    kMetadata,
    kTensorValue,
    kTensor,
    kDtype,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets,
    kEnd,
  };

  bool Stop(std::string what) {
    sentence_ = fmt::format("{}: {}", path_, what);
    return false;
  }

  bool Unexpected(std::string_view what) {
    if (name_.empty()) return Stop(fmt::format("the header has {} where an object of tensors must be", what));
    return Stop(fmt::format("the header entry of {} has {} where the format wants something else", Quote(name_), what));
  }

  bool FinishTensor() {
    for (const char* required : {"dtype", "shape", "data_offsets"}) {
      if (!keys_.contains(required)) return Stop(fmt::format("tensor {} has no {}", Quote(name_), required));
    }
    const auto dtype = std::ranges::find(kDtypes, entry_.dtype, &DtypeBits::name);
    if (dtype == kDtypes.end()) {
      return Stop(fmt::format("tensor {} has the unknown dtype \"{}\"", Quote(name_), Quote(entry_.dtype)));
    }
    uint64_t bits = dtype->bits;
    bool overflows = false;
    for (uint64_t n : entry_.shape) overflows |= __builtin_mul_overflow(bits, n, &bits);
    if (std::ranges::find(entry_.shape, uint64_t{0}) != entry_.shape.end())
      bits = 0;
    else if (overflows)
      return Stop(fmt::format("the shape of tensor {} overflows", Quote(name_)));
    if (offsets_.size() != 2 || offsets_[0] > offsets_[1] || offsets_[1] > data_bytes_) {
      return Stop(fmt::format("the data_offsets of tensor {} do not lie within the file's {} bytes of data",
                              Quote(name_), data_bytes_));
    }
    entry_.offset = data_offset_ + offsets_[0];
    entry_.size_bytes = offsets_[1] - offsets_[0];
    if (bits % 8 != 0 || entry_.size_bytes != bits / 8) {
      return Stop(fmt::format("tensor {} has {} bytes, but its dtype and shape make {}", Quote(name_),
                              entry_.size_bytes, bits / 8));
    }
    entries_.emplace(std::move(name_), std::move(entry_));
    return true;
  }

  const std::string& path_;
  uint64_t data_offset_;
  uint64_t data_bytes_;
  Place place_ = Place::kStart;
  bool has_metadata_ = false;
  std::string name_;
  SafetensorsEntry entry_;
  std::vector<uint64_t> offsets_;
  std::set<std::string> keys_;
  SafetensorsEntries entries_;
  std::string sentence_;
};

}  // namespace

Expected<SafetensorsEntries> ParseSafetensorsHeader(std::string_view json, uint64_t data_offset, uint64_t data_bytes,
                                                    const std::string& path) {
  if (!json.starts_with('{')) return Sentence(fmt::format("{}: the header does not start with '{{'", path));
  HeaderReader reader(data_offset, data_bytes, path);
  if (!nlohmann::json::sax_parse(json, &reader)) return Sentence(reader.sentence());
  return reader.Finish();
}

Expected<SafetensorsEntries> ReadSafetensorsHeader(const InputFile& file) {
  std::array<std::byte, 8> length_bytes;
  if (file.size_bytes() < length_bytes.size()) {
    return Sentence(fmt::format("{} has {} bytes; a safetensors file has at least 8", file.path(), file.size_bytes()));
  }
  THIMBLE_TRY(file.ReadAt(0, length_bytes));
  uint64_t length = 0;
  for (size_t i = 8; i-- > 0;) length = length << 8 | std::to_integer<uint64_t>(length_bytes[i]);
  if (length > kMaxSafetensorsHeaderBytes || length > file.size_bytes() - 8) {
    return Sentence(fmt::format("{}: a header of {} bytes is announced; the file has {} and the format allows {}",
                                file.path(), length, file.size_bytes(), kMaxSafetensorsHeaderBytes));
  }
  std::string json(static_cast<size_t>(length), '\0');
  THIMBLE_TRY(file.ReadAt(8, std::as_writable_bytes(std::span(json))));
  return ParseSafetensorsHeader(json, 8 + length, file.size_bytes() - 8 - length, file.path());
}

Expected<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view json, const std::string& path) {
  constexpr size_t kMaxFiles = 512;
  constexpr size_t kMaxNameBytes = 80;
  THIMBLE_ASSIGN(const nlohmann::json index, ParseJsonObject(json, path));
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end() || !weight_map->is_object() || weight_map->empty()) {
    return Sentence(fmt::format("{}: weight_map must be an object that names a file for each tensor", path));
  }
  std::map<std::string, std::string> files_by_tensor;
  std::set<std::string> files;
  for (const auto& [tensor, file] : weight_map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (!name.ends_with(".safetensors") || name.size() > kMaxNameBytes || name.find('/') != name.npos ||
        Quote(name) != name) {
      return Sentence(fmt::format("{}: tensor {} must be in a .safetensors file beside it, not in {}", path,
                                  Quote(tensor), Quote(file.dump())));
    }
    files_by_tensor.emplace(tensor, name);
    files.insert(name);
  }
  if (files.size() > kMaxFiles) {
    return Sentence(
        fmt::format("{}: the model lies in {} files; more than {} are not read", path, files.size(), kMaxFiles));
  }
  return files_by_tensor;
}

Expected<Safetensors> Safetensors::Open(const std::string& path) {
  Safetensors safetensors(path);
  THIMBLE_ASSIGN(InputFile file, InputFile::Open(path));
  THIMBLE_TRY(RefuseForeign(file));
  THIMBLE_ASSIGN(SafetensorsEntries entries, ReadSafetensorsHeader(file));
  for (auto& [name, entry] : entries) safetensors.tensors_.emplace(name, Tensor{std::move(entry), 0});
  safetensors.files_.push_back(std::move(file));
  return safetensors;
}

Expected<Safetensors> Safetensors::OpenSharded(const std::string& index_path,
                                               const std::function<bool(const std::string& name)>& is_ignorable) {
  constexpr uint64_t kMaxIndexBytes = 16 << 20;
  THIMBLE_ASSIGN(const std::string json, ReadWholeFile(index_path, kMaxIndexBytes));
  THIMBLE_ASSIGN(const auto index, ParseSafetensorsIndex(json, index_path));
  Safetensors safetensors(index_path);
  std::set<std::string> names;
  for (const auto& [tensor, file] : index) names.insert(file);
  const std::string folder = FolderOf(index_path);
  for (const std::string& name : names) THIMBLE_TRY(safetensors.AddShard(Joined(folder, name), index, is_ignorable));
  for (const auto& [tensor, file] : index) {
    if (safetensors.tensors_.contains(tensor)) continue;
    return Sentence(fmt::format("{} puts tensor {} in {}, which does not have it", index_path, Quote(tensor), file));
  }
  return safetensors;
}

Status Safetensors::AddShard(const std::string& shard_path, const std::map<std::string, std::string>& index,
                             const std::function<bool(const std::string& name)>& is_ignorable) {
  if (!Exists(shard_path)) {
    return Sentence(fmt::format("{} names {}, which is not there; get all files of the checkpoint", path_, shard_path));
  }
  THIMBLE_ASSIGN(InputFile file, InputFile::Open(shard_path));
  THIMBLE_TRY(RefuseForeign(file));
  THIMBLE_ASSIGN(SafetensorsEntries entries, ReadSafetensorsHeader(file));
  for (auto& [name, entry] : entries) {
    const auto it = index.find(name);
    if (it == index.end()) {
      if (is_ignorable(name)) continue;
      return Sentence(fmt::format("{} has tensor {}, which {} does not name", shard_path, Quote(name), path_));
    }
    if (NameOf(shard_path) != it->second) {
      return Sentence(
          fmt::format("{} has tensor {}, which {} puts in \"{}\"", shard_path, Quote(name), path_, it->second));
    }
    tensors_.emplace(name, Tensor{std::move(entry), files_.size()});
  }
  files_.push_back(std::move(file));
  return {};
}

}  // namespace thimble::host
