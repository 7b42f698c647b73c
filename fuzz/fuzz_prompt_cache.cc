// Prompt caches: whatever a file holds, it is used, told of in a note or refused with a sentence, and a text afterwards
// is the one without it, unless the file says that it has its beginning. The first byte says what is made right before
// it is read, so that more than checksums is found: bit 0 the magic and version, bit 1 the model and shape, bit 2 the
// size and the checksums.
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/xxh32.h"
#include "engine/math/kernels.h"
#include "fuzz/sentence.h"
#include "host/models/plan_request.h"
#include "host/models/prompt_cache.h"
#include "host/support/atomic_file.h"
#include "host/support/input_file.h"
#include "tests/support/test_gguf.h"

namespace {

using namespace thimble;
using namespace thimble::host;

// A model, a session of it, and what a right file has in its header.
struct Model {
  Model() {
    const std::vector<std::byte> gguf = tests::MakeGguf({.shape = {.vocab_size = 50,
                                                                   .hidden_size = 8,
                                                                   .intermediate_size = 8,
                                                                   .num_hidden_layers = 2,
                                                                   .num_attention_heads = 2,
                                                                   .num_key_value_heads = 1,
                                                                   .head_dim = 32,
                                                                   .max_position_embeddings = 16,
                                                                   .rms_norm_eps = 1e-5f,
                                                                   .rope_theta = 10000}});
    auto file = TemporaryFile::Create();
    if (!file || !file->sink().Write(gguf)) std::abort();
    gguf_ = std::make_unique<TemporaryFile>(std::move(*file));
    auto opened = LoadedModel::Open({.model = gguf_->path(), .board = "host"});
    if (!opened) std::abort();
    loaded = std::move(*opened);
    auto made = MakePlan(*loaded, {.n_ctx = 8, .cache = {.k = DType::kF16, .v = DType::kQ8_0}}, {.temperature = 0});
    if (!made) std::abort();
    plan = *made;
    auto started = loaded->OpenSession(plan);
    if (!started) std::abort();
    session = *started;
    auto folder = std::string("/tmp/fuzz_prompt_cache_XXXXXX");
    if (mkdtemp(folder.data()) == nullptr) std::abort();
    path = folder + "/cache";
    auto cache = PromptCache::Open({.file = path}, *loaded, *session);
    if (!cache || !session->Prefill(kPrompt) || !cache->Save(*session, 3)) std::abort();
    right = Read();
    state.assign(session->hidden(), session->hidden() + 8);
  }
  ~Model() {
    unlink(path.c_str());
    rmdir(path.substr(0, path.rfind('/')).c_str());
  }

  std::vector<std::byte> Read() const {
    auto file = InputFileOf();
    std::vector<std::byte> bytes(static_cast<size_t>(file.size_bytes()));
    if (!file.ReadAt(0, bytes)) std::abort();
    return bytes;
  }
  InputFile InputFileOf() const {
    auto file = InputFile::Open(path, InputFile::Accept::kFileToReplace);
    if (!file) std::abort();
    return std::move(*file);
  }

  static constexpr TokenId kPrompt[] = {1, 7, 9};
  std::unique_ptr<TemporaryFile> gguf_;
  std::unique_ptr<LoadedModel> loaded;
  plan::Plan plan;
  Session* session = nullptr;
  std::string path;
  std::vector<std::byte> right;
  std::vector<float> state;
};

void Put32(std::span<std::byte> bytes, size_t at, uint32_t value) { std::memcpy(&bytes[at], &value, sizeof(value)); }

uint32_t Checksum(std::span<const std::byte> bytes) { return Xxh32::Of(math::kReferenceKernels.xxh32_stripes, bytes); }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static Model model;
  const auto given = std::as_bytes(std::span(data, size)).subspan(1);
  std::vector<std::byte> bytes(given.begin(), given.end());
  if (bytes.size() >= 128) {
    if (data[0] & 1) std::copy_n(model.right.begin(), 12, bytes.begin());
    if (data[0] & 2) std::copy_n(model.right.begin() + 24, 40, bytes.begin() + 24);
    if (data[0] & 4) {
      const uint64_t file_bytes = bytes.size();
      std::memcpy(&bytes[16], &file_bytes, sizeof(file_bytes));
      std::fill_n(bytes.begin() + 72, 56, std::byte{0});
      Put32(bytes, 68, Checksum(std::span(bytes).subspan(128)));
      Put32(bytes, 12, Checksum(std::span(bytes).subspan(16, 112)));
    }
  }
  if (!WriteWhole(model.path, {}, {reinterpret_cast<const char*>(bytes.data()), bytes.size()})) std::abort();
  model.session->Clear();
  const auto cache = PromptCache::Open({.file = model.path, .read_only = true}, *model.loaded, *model.session);
  if (!cache && (cache.error().size() > 400 || !IsSentence(cache.error()))) std::abort();
  if (model.session->n_past() > 8 || (cache && (cache->size() != 0) != (model.session->n_past() != 0))) std::abort();
  const bool is_used = model.session->n_past() != 0;
  if (!model.session->Replace(Model::kPrompt)) {
    if (!is_used) std::abort();
    return 0;
  }
  if (!is_used && !std::equal(model.state.begin(), model.state.end(), model.session->hidden())) std::abort();
  return 0;
}
