#include "host/models/prompt_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "engine/base/xxh32.h"
#include "engine/math/kernels.h"
#include "engine/math/rotary.h"
#include "engine/plan/plan_file.h"
#include "host/models/plan_request.h"
#include "host/support/aligned_buffer.h"
#include "host/support/atomic_file.h"
#include "host/support/input_file.h"
#include "host/support/little_endian.h"
#include "host/support/paths.h"
#include "host/support/progress.h"

namespace thimble::host {
namespace {

constexpr std::array<char, 8> kMagic = {'T', 'H', 'M', 'B', 'L', 'K', 'V', '\n'};
// Another one where keys or values come to have other bits (docs/numbers.md).
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 128;
constexpr size_t kCheckedFrom = 16;  // bytes of the header that its checksum is of
constexpr uint64_t kIdentityPieceBytes = 1 << 20;

Xxh32 Checksum(uint32_t seed = 0) { return Xxh32(math::BestKernels().xxh32_stripes, seed); }

// As DType counts; others are none that keys and values have.
std::optional<DType> CacheTypeOf(uint32_t number) {
  for (const DType type : plan::kCacheTypes) {
    if (static_cast<uint32_t>(type) == number) return type;
  }
  return std::nullopt;
}

struct Header {
  uint64_t file_bytes = 0;
  uint64_t model_bytes = 0;
  std::array<uint32_t, 2> model_checksums = {};
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t vocab_size = 0;
  uint32_t k_type = 0;
  uint32_t v_type = 0;
  uint32_t positions = 0;
  uint32_t contents_checksum = 0;
};
static_assert(sizeof(Header) == 56);  // without gaps: it lies in the file as it lies here

std::array<std::byte, kHeaderBytes> Bytes(const Header& header) {
  std::array<std::byte, kHeaderBytes> bytes = {};
  std::memcpy(bytes.data(), kMagic.data(), kMagic.size());
  std::memcpy(&bytes[8], &kVersion, sizeof(kVersion));
  std::memcpy(&bytes[kCheckedFrom], &header, sizeof(header));
  Xxh32 checksum = Checksum();
  checksum.Update(std::span(bytes).subspan(kCheckedFrom));
  const uint32_t digest = checksum.Digest();
  std::memcpy(&bytes[12], &digest, sizeof(digest));
  return bytes;
}

uint64_t FileBytes(const ModelShape& shape, const model::CacheTypes& types, uint64_t positions) {
  return kHeaderBytes + positions * sizeof(TokenId) +
         positions * shape.num_hidden_layers *
             (StoredBytes(types.k, shape.kv_dim()) + StoredBytes(types.v, shape.kv_dim()));
}

// Calls use(rows of all positions of the context, type) for each layer's heads of keys, then of values, in the order of
// the file; stops at a failure.
template <class Use>
Status ForRows(Session& session, const Use& use) {
  const ModelShape& shape = session.shape();
  const model::CacheTypes& types = session.plan().options.cache;
  for (const bool are_values : {false, true}) {
    for (uint32_t layer = 0; layer < shape.num_hidden_layers; ++layer) {
      for (uint32_t head = 0; head < shape.num_key_value_heads; ++head) {
        THIMBLE_TRY(are_values ? use(session.values(layer, head), types.v) : use(session.keys(layer, head), types.k));
      }
    }
  }
  return {};
}

bool AreFinite(DType type, std::span<const std::byte> stored) {
  std::array<float, 256> numbers;
  const size_t step = static_cast<size_t>(StoredBytes(type, numbers.size()));
  for (; !stored.empty(); stored = stored.subspan(std::min(step, stored.size()))) {
    const size_t n = std::min(step, stored.size()) / BlockBytes(type) * BlockElements(type);
    math::Expand(type, numbers.data(), stored.data(), n);
    if (!std::ranges::all_of(std::span(numbers).first(n), [](float x) { return std::isfinite(x); })) return false;
  }
  return true;
}

}  // namespace

Expected<PromptCache::Identity> PromptCache::IdentityOf(LoadedModel& loaded) {
  Ledger ledger;
  storage::FileReader reader(*loaded.opened().device, loaded.opened().file, ledger);
  const uint64_t bytes = reader.file_size_bytes();
  AlignedBuffer buffer(reader.BufferBytes(kIdentityPieceBytes));
  Progress progress("knowing the model", bytes);
  std::array<Xxh32, 2> checksums = {Checksum(0), Checksum(1)};
  for (uint64_t at = 0; at < bytes; at += kIdentityPieceBytes) {
    const uint64_t size = std::min(kIdentityPieceBytes, bytes - at);
    if (const auto started = reader.Start(at, size, buffer.bytes()); !started) return loaded.Failure(started.error());
    const auto piece = reader.Wait();
    if (!piece) return loaded.Failure(piece.error());
    for (Xxh32& checksum : checksums) checksum.Update(*piece);
    progress.Advance(size);
  }
  return Identity{.bytes = bytes, .checksums = {checksums[0].Digest(), checksums[1].Digest()}};
}

Expected<PromptCache> PromptCache::Open(const PromptCacheRequest& request, LoadedModel& loaded, Session& session) {
  PromptCache cache(request);
  if (session.plan().swaps()) {
    return Sentence(
        "--prompt-cache keeps what memory holds, and the swap file has a part of this context: take a shorter "
        "one (-c), or leave --swap out");
  }
  if (!request.read_only) THIMBLE_TRY(AtomicFile::Create(request.file, {}));  // before anybody waits for a text
  THIMBLE_ASSIGN(cache.identity_, IdentityOf(loaded));
  if (!Exists(request.file)) return cache;
  THIMBLE_ASSIGN(const std::string fault, cache.Load(session));
  if (fault.empty()) return cache;
  cache.ids_.clear();
  session.Clear();
  cache.not_used_ = fmt::format("the prompt cache {} {}; it is not used{}", request.file, fault,
                                request.read_only ? "" : ", and replaced when the text is done");
  return cache;
}

Expected<std::string> PromptCache::Load(Session& session) {
  THIMBLE_ASSIGN(const InputFile file, InputFile::Open(request_.file, InputFile::Accept::kFileToReplace));
  if (file.size_bytes() == 0) return "";  // as mktemp makes one
  std::array<std::byte, kHeaderBytes> bytes = {};
  const auto known = static_cast<size_t>(std::min<uint64_t>(file.size_bytes(), bytes.size()));
  THIMBLE_TRY(file.ReadAt(0, std::span(bytes).first(known)));
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return Sentence(fmt::format("--prompt-cache: {} is no prompt cache of Thimble's: give another name, or remove it",
                                request_.file));
  }
  if (known >= kCheckedFrom && LoadLittleEndian<uint32_t>(&bytes[8]) != kVersion) {
    return "was written by another version of Thimble";
  }
  constexpr char kDamaged[] = "is damaged";
  Header header;
  std::memcpy(&header, &bytes[kCheckedFrom], sizeof(header));
  if (known != kHeaderBytes || bytes != Bytes(header) || header.file_bytes != file.size_bytes()) return kDamaged;

  const ModelShape& shape = session.shape();
  const Identity identity = {.bytes = header.model_bytes,
                             .checksums = {header.model_checksums[0], header.model_checksums[1]}};
  if (identity != identity_ || header.layers != shape.num_hidden_layers ||
      header.kv_heads != shape.num_key_value_heads || header.head_dim != shape.head_dim ||
      header.vocab_size != shape.vocab_size) {
    return "is of another model";
  }
  const std::optional<DType> k_type = CacheTypeOf(header.k_type);
  const std::optional<DType> v_type = CacheTypeOf(header.v_type);
  if (!k_type || !v_type) return kDamaged;
  const model::CacheTypes types = {*k_type, *v_type};
  if (types != session.plan().options.cache) {
    return fmt::format("has {}, and this run {}", CacheText(types), CacheText(session.plan().options.cache));
  }
  const uint32_t n = header.positions;
  if (n == 0 || n > math::kMaxPositions || header.file_bytes != FileBytes(shape, types, n)) return kDamaged;

  Xxh32 checksum = Checksum();
  uint64_t at = kHeaderBytes;
  const auto read = [&](std::span<std::byte> out) -> Status {
    THIMBLE_TRY(file.ReadAt(at, out));
    checksum.Update(out);
    at += out.size();
    return {};
  };
  std::vector<TokenId> ids(n);
  THIMBLE_TRY(read(std::as_writable_bytes(std::span(ids))));
  if (std::ranges::any_of(ids, [&](TokenId id) { return id >= shape.vocab_size; })) return kDamaged;
  const uint32_t kept = std::min(n, session.n_ctx());
  std::vector<std::byte> rest;
  bool are_finite = true;
  const auto read_rows = [&](std::span<std::byte> rows, DType type) -> Status {
    const auto row_bytes = static_cast<size_t>(StoredBytes(type, shape.head_dim));
    const std::span<std::byte> here = rows.first(kept * row_bytes);
    THIMBLE_TRY(read(here));
    are_finite = are_finite && AreFinite(type, here);
    rest.resize((n - kept) * row_bytes);
    return read(rest);
  };
  THIMBLE_TRY(ForRows(session, read_rows));
  if (checksum.Digest() != header.contents_checksum || !are_finite) return kDamaged;
  if (!session.Adopt(std::span(ids).first(kept))) return kDamaged;
  ids_ = std::move(ids);
  return "";
}

Status PromptCache::Save(Session& session, uint32_t positions) {
  const std::span<const TokenId> ids = session.past().first(std::min(positions, session.n_past()));
  if (request_.read_only || ids.empty() || std::ranges::equal(ids, ids_)) return {};
  const ModelShape& shape = session.shape();
  const model::CacheTypes& types = session.plan().options.cache;
  // All of it lies in memory, so it can be gone through twice.
  const auto for_contents = [&](const auto& use) -> Status {
    THIMBLE_TRY(use(std::as_bytes(ids)));
    const auto use_rows = [&](std::span<const std::byte> rows, DType type) -> Status {
      return use(rows.first(ids.size() * static_cast<size_t>(StoredBytes(type, shape.head_dim))));
    };
    return ForRows(session, use_rows);
  };
  Xxh32 checksum = Checksum();
  const auto add = [&](std::span<const std::byte> bytes) -> Status {
    checksum.Update(bytes);
    return {};
  };
  THIMBLE_TRY(for_contents(add));
  const Header header = {.file_bytes = FileBytes(shape, types, ids.size()),
                         .model_bytes = identity_.bytes,
                         .model_checksums = {identity_.checksums[0], identity_.checksums[1]},
                         .layers = shape.num_hidden_layers,
                         .kv_heads = shape.num_key_value_heads,
                         .head_dim = shape.head_dim,
                         .vocab_size = shape.vocab_size,
                         .k_type = static_cast<uint32_t>(types.k),
                         .v_type = static_cast<uint32_t>(types.v),
                         .positions = static_cast<uint32_t>(ids.size()),
                         .contents_checksum = checksum.Digest()};
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(request_.file, {}));
  THIMBLE_TRY(file.sink().Write(Bytes(header)));
  const auto write = [&](std::span<const std::byte> bytes) { return file.sink().Write(bytes); };
  THIMBLE_TRY(for_contents(write));
  THIMBLE_TRY(file.Commit());
  ids_.assign(ids.begin(), ids.end());
  return {};
}

}  // namespace thimble::host
