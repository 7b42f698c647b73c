// The card's driver, as the portable code wants it: connect in a given way, read and write sectors. firmware/main/
// implements it with ESP-IDF, the tests with cards that fail.
#ifndef THIMBLE_FIRMWARE_APP_CARD_PORT_H_
#define THIMBLE_FIRMWARE_APP_CARD_PORT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/board.h"
#include "engine/base/error.h"

namespace thimble::firmware {

enum class CardBus : uint8_t { k4Bit, k1Bit, kSpi };

// A way to talk to the card.
struct CardRung {
  const char* name = "";  // a way of the board files: "4bit-40"
  CardBus bus = CardBus::k4Bit;
  uint32_t khz = 0;
};

// All ways, the fastest first. An ESP32 makes its clock from 160 MHz by whole numbers. A card that has once been spoken
// to by SPI answers in no other way until its power is off, so that comes last.
inline constexpr std::array<CardRung, 7> kCardRungs = {{{"4bit-40", CardBus::k4Bit, 40000},
                                                        {"4bit-32", CardBus::k4Bit, 32000},
                                                        {"4bit-26.7", CardBus::k4Bit, 26667},
                                                        {"4bit-20", CardBus::k4Bit, 20000},
                                                        {"1bit-40", CardBus::k1Bit, 40000},
                                                        {"1bit-20", CardBus::k1Bit, 20000},
                                                        {"spi-20", CardBus::kSpi, 20000}}};

// What a card says of itself.
struct CardIdentity {
  std::array<char, 8> name = {};  // printable, NUL-terminated
  uint64_t size_bytes = 0;        // a multiple of kSectorBytes
  uint32_t serial = 0;            // tells this card from others
};

// One task uses it at a time.
class CardPort {
 public:
  // Resets the card and makes it ready in this way; what it was before does not matter. kNotFound or kTimeout: nothing
  // answers; kIo: it answers, but not so; kUnsupported: the board cannot do this.
  virtual Result<CardIdentity> Connect(const CardRung& rung) = 0;

  // Lets go of the pins. The card may be pulled.
  virtual void Disconnect() = 0;

  // Whether the card can be read straight into this memory.
  virtual bool CanReach(std::span<const std::byte> memory) const = 0;

  // Starts reading whole sectors into memory that CanReach() and is aligned to 4; at most one read is in flight. The
  // read may be done when this returns.
  virtual Result<void> StartRead(uint64_t first_sector, std::span<std::byte> dst) = 0;

  // Waits for it. kIo: bits came wrong, as the card's checksums tell; kTimeout: the card does not answer.
  virtual Result<void> WaitRead() = 0;

  // Writes whole sectors from memory that CanReach(), and returns when the card has them, which may take it a quarter
  // of a second and more. No read is in flight. kUnsupported: the card is locked; else as WaitRead().
  virtual Result<void> Write(uint64_t first_sector, std::span<const std::byte> src) = 0;

 protected:
  ~CardPort() = default;  // never deleted through this interface
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_CARD_PORT_H_
