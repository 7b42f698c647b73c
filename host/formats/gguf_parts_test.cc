#include "host/formats/gguf_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/checkpoints.h"
#include "tests/support/gguf_builder.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class GgufPartsTest : public testing::Test {
 protected:
  // A model's tensors dealt out to `count` files, as llama-gguf-split does: keys of the model in the first alone.
  void WriteParts(uint16_t count) {
    const GgufBuilder whole = GgufBuilder::Llama(2, 8, 32, 64, 2, 1, 16);
    WriteFile(folder_ / "whole.gguf", whole.Build());
    const size_t each = whole.tensors.size() / count + 1;
    for (uint16_t i = 0; i < count; ++i) {
      GgufBuilder part = whole;
      if (i > 0) part.keys.clear();
      part.Set("split.no", GgufValue::Of(uint32_t{i}));
      part.Set("split.count", GgufValue::Of(uint32_t{count}));
      part.Set("split.tensors.count", GgufValue::Of(static_cast<int32_t>(whole.tensors.size())));
      const size_t begin = i * each, end = std::min(begin + each, whole.tensors.size());
      part.tensors.assign(whole.tensors.begin() + static_cast<ptrdiff_t>(begin),
                          whole.tensors.begin() + static_cast<ptrdiff_t>(end));
      for (GgufTensor& tensor : part.tensors) {
        if (tensor.dimensions.size() == 2) tensor.type = 2;  // Q4_0
      }
      WriteFile(Part(i + 1u, count), part.Build());
    }
  }
  std::string Part(unsigned number, unsigned count) const {
    return folder_ / ("m-0000" + std::to_string(number) + "-of-0000" + std::to_string(count) + ".gguf");
  }
  Status Join(const std::vector<std::string>& parts) const {
    THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(folder_ / "joined.gguf", {}));
    THIMBLE_TRY(JoinGguf(parts, file.sink()));
    return file.Commit();
  }

  const TemporaryFolder folder_;
};

TEST_F(GgufPartsTest, AreFoundByTheirNames) {
  WriteParts(3);
  EXPECT_THAT(*GgufParts(Part(1, 3)), ElementsAre(Part(1, 3), Part(2, 3), Part(3, 3)));
  EXPECT_EQ(NameOfParts(Part(1, 3)), "m");
  EXPECT_EQ(NameOfParts("a/x.gguf"), "x");
  EXPECT_THAT(GgufParts(Part(2, 3)).error(), HasSubstr("give the first, " + Part(1, 3)));
  EXPECT_THAT(*GgufParts(folder_ / "whole.gguf"), IsEmpty());
  EXPECT_THAT(*GgufParts(folder_ / "absent-00001-of-00002.gguf"), IsEmpty());
  for (const char* name : {"m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-00001-of-00001.gguf",
                           "m-0001a-of-00003.gguf", "m-00001-of-00003.bin", "-00001-of-00003.gguf"}) {
    WriteFile(folder_ / name, "");
    EXPECT_EQ(GgufParts(folder_ / name).has_value() && GgufParts(folder_ / name)->empty(),
              std::string(name) != "-00001-of-00003.gguf")
        << name;
  }
  std::filesystem::remove(Part(3, 3));
  EXPECT_THAT(GgufParts(Part(1, 3)).error(), testing::StartsWith(Part(3, 3) + " is not there"));
}

TEST_F(GgufPartsTest, AreJoined) {
  WriteParts(3);
  const Status joined = Join(*GgufParts(Part(1, 3)));
  ASSERT_TRUE(joined) << joined.error();
  const GgufContent whole = ReadGguf(folder_ / "joined.gguf");
  EXPECT_EQ(whole.keys, ReadGguf(folder_ / "whole.gguf").keys);
  size_t tensors = 0;
  for (unsigned number = 1; number <= 3; ++number) {
    for (const auto& [name, tensor] : ReadGguf(Part(number, 3)).tensors) {
      ++tensors;
      EXPECT_EQ(whole.tensors.at(name).type, tensor.type);
      EXPECT_EQ(whole.tensors.at(name).bytes, tensor.bytes) << name;
      EXPECT_EQ(whole.tensors.at(name).file_offset % 32, 0u);
    }
  }
  EXPECT_EQ(tensors, whole.tensors.size());
}

TEST_F(GgufPartsTest, ThatDoNotFitTogetherAreRefused) {
  WriteParts(3);
  const std::vector<std::string> parts = *GgufParts(Part(1, 3));
  EXPECT_THAT(Join({parts[0], parts[2], parts[1]}).error(), HasSubstr("says of itself that it is no part 2 of 3"));
  EXPECT_THAT(Join({parts[0], parts[1]}).error(), HasSubstr("says of itself that it is no part 1 of 2"));
  EXPECT_THAT(Join({folder_ / "whole.gguf", parts[1], parts[2]}).error(), HasSubstr("no part 1 of 3"));
  const std::string second = ReadFile(parts[1]);
  for (size_t n = 0; n < second.size() - 32; n += n < 300 ? 1 : 97) {
    WriteFile(parts[1], second.substr(0, n));
    const Status joined = Join(parts);
    ASSERT_FALSE(joined) << n;
    EXPECT_THAT(joined.error(), HasSubstr(parts[1])) << n;
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ / "joined.gguf"));
}

}  // namespace
}  // namespace thimble::host
