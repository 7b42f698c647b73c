#include "host/support/hugging_face.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thimble::host {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

TEST(HuggingFace, ARepositoryIsToBeFetched) {
  for (const char* path : {"no-such-owner/Tiny-LLM", "no-such-owner/Tiny-LLM/", "no-such-owner/Tiny-LLM:Q4_K_M",
                           "hf.co/no-such-owner/Tiny-LLM", "https://hf.co/no-such-owner/Tiny-LLM",
                           "https://huggingface.co/no-such-owner/Tiny-LLM/tree/main", "hf://no-such-owner/Tiny-LLM",
                           "http://www.huggingface.co/no-such-owner/Tiny-LLM?library=transformers"}) {
    const Status refused = RefuseRepository(path);
    ASSERT_FALSE(refused) << path;
    EXPECT_THAT(refused.error(), AllOf(StartsWith(std::string("cannot open ") + path),
                                       HasSubstr("'hf download no-such-owner/Tiny-LLM --local-dir Tiny-LLM'"),
                                       HasSubstr("'thimble convert Tiny-LLM")));
  }
}

TEST(HuggingFace, OneOfItsFilesAlone) {
  for (const char* path : {"https://huggingface.co/a/b-GGUF/resolve/main/b.Q8_0.gguf?download=true",
                           "https://huggingface.co/a/b-GGUF/blob/main/b.Q8_0.gguf"}) {
    EXPECT_THAT(
        RefuseRepository(path).error(),
        AllOf(HasSubstr("'hf download a/b-GGUF b.Q8_0.gguf --local-dir b-GGUF'"), HasSubstr("b-GGUF/b.Q8_0.gguf")));
  }
  EXPECT_THAT(RefuseRepository("https://hf.co/a/b/resolve/main/x;rm y").error(), HasSubstr("download a/b --local"));
}

TEST(HuggingFace, WhatIsThereOrNoRepositoryPasses) {
  for (const char* path : {"", "Tiny-LLM", "/no/such", "./no/such", "../no/such", "no/such/folder", "out/absent.gguf",
                           "out/absent.img", "a b/c", "no/.such", "https://example.com/a/b", "no/", "/"}) {
    EXPECT_TRUE(RefuseRepository(path)) << path;
  }
  EXPECT_TRUE(RefuseRepository("/proc/self/"));
}

TEST(HuggingFace, LlamaCppsOptionIsAnswered) {
  EXPECT_THAT(RefusedFetch("-hf", "a/b:Q8_0"), AllOf(StartsWith("-hf: "), HasSubstr("hf download a/b --local-dir b")));
  EXPECT_THAT(RefusedFetch("-hf", ""), HasSubstr("hf download OWNER/NAME --local-dir NAME"));
}

}  // namespace
}  // namespace thimble::host
