// Pieces with their tables on the card, in an index's image, behind a cache of pages.
#ifndef THIMBLE_ENGINE_TEXT_CARD_PIECES_H_
#define THIMBLE_ENGINE_TEXT_CARD_PIECES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "engine/base/xxh32.h"
#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"
#include "engine/text/memory_pieces.h"
#include "engine/text/pieces.h"
#include "engine/text/tokenizer_image.h"

namespace thimble::text {

// Its state is a cache, which every call may change: one thread. The least recently used page goes.
//
// Whatever the image says, numbers are within the vocabulary and texts within longest_token_bytes. Once something
// failed nothing is read, and all numbers are 0, until TakeStatus().
class CardPieces final : public Pieces {
 public:
  // Bytes of cache that keep `num_pages` pages: Tokenizer::CacheBytes().
  static uint64_t CacheBytes(const formats::TokenizerRef& ref, uint32_t block_bytes, uint32_t num_pages);

  // As Tokenizer::OpenImage(). Lies in the cache.
  static Result<CardPieces*> Open(const formats::TokenizerRef& ref, storage::FileReader& file,
                                  const formats::SectionRef& image, Xxh32::TakeStripes xxh32,
                                  std::span<std::byte> cache, VocabularyFacts& facts);

  FoundPiece Find(std::string_view piece, PieceHash hash) const override;
  TokenType Type(TokenId id) const override;
  TokenId ByteToken(uint8_t byte) const override;
  TokenId UserDefined(uint32_t i) const override;
  uint32_t PieceBytes(TokenId id) const override { return TextOf(id).bytes; }
  int PieceByte(TokenId id, uint32_t i) const override;
  std::string_view Piece(TokenId id) const override;
  uint32_t CharsmapNumber(uint32_t offset, uint32_t width) const override;
  Result<void> TakeStatus() const override;

 private:
  static constexpr uint32_t kNoPage = 0xFFFFFFFF;

  struct Text {
    uint32_t begin = 0;
    uint32_t bytes = 0;
  };
  struct Slot {
    uint32_t page = kNoPage;
    uint32_t used = 0;  // clock_ then
  };

  CardPieces(const formats::TokenizerRef& ref, storage::FileReader& file, uint64_t offset_bytes,
             Xxh32::TakeStripes xxh32);

  // Both before everything else: the slots, the memory of their pages and that for Piece(); the header, checked.
  void UseMemory(std::span<Slot> slots, std::byte* pages, char* piece);
  void UseHeader(const ImageHeader& header);
  ImageHeader ReadHeader() const;

  const std::byte* Page(uint64_t page) const;
  Result<void> ReadPage(uint64_t page, std::byte* slot) const;
  uint32_t Number(uint64_t first_page, uint64_t offset, uint32_t width) const;
  TokenId Id(uint64_t table, uint32_t i, TokenId other) const;
  template <class Use>
  bool ForStretches(Text text, Use use) const;
  bool FindOnPage(uint64_t page, std::string_view piece, FoundPiece* found) const;
  bool IsText(Text text, std::string_view piece) const;
  Text TextOf(TokenId id) const;
  void Damaged(uint64_t page) const;

  storage::FileReader* file_;
  Xxh32::TakeStripes xxh32_;
  uint64_t offset_bytes_;
  TableLayout layout_;
  std::byte* pages_ = nullptr;
  Slot* slots_ = nullptr;
  char* piece_ = nullptr;
  uint32_t slot_bytes_;
  uint32_t num_slots_ = 0;
  mutable uint32_t last_ = 0;  // slot used last
  mutable uint32_t clock_ = 0;
  uint32_t num_tokens_;
  uint32_t num_hashed_ = 0;
  uint32_t longest_token_bytes_;
  bool is_unigram_;
  uint32_t text_bytes_ = 0;
  uint32_t num_hash_pages_ = 0;
  uint64_t offsets_page_ = 0;
  uint64_t hash_page_ = 0;
  uint64_t charsmap_page_ = 0;
  mutable std::optional<Error> failure_;
};

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_CARD_PIECES_H_
