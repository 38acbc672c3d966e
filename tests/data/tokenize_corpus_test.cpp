// tests/data/tokenize_corpus_test.cpp: text to token files on several threads, and the note beside them.
#include "data/tokenize_corpus.h"

#include <catch2/catch.hpp>

#include "core/base/check.h"
#include "core/config/config.pb.h"
#include "data/dataset_note.h"
#include "data/indexed_dataset.h"
#include "data/open_data.h"
#include "tests/data/temp_folder.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

// Lines of varied length, 3.5 MB: several blocks.
std::string many_lines() {
  std::string text;
  for (int i = 0; text.size() < 3'500'000; ++i)
    text += std::to_string(i) + std::string(static_cast<size_t>(i % 300), 'x') + "\n";
  return text;
}

CorpusCounts tokenize(const std::string& input, const std::string& prefix, int num_threads) {
  const auto tokenizer = open_tokenizer("bytes");
  TextReader reader({input}, {.format = TextFormat::kLines});
  IndexedDatasetWriter writer(prefix, tokenizer->vocab_size(), ExistingFiles::kRefuse);
  int64_t last = 0;
  const CorpusCounts counts = tokenize_corpus(reader, *tokenizer, writer, num_threads, [&](const CorpusCounts& so_far) {
    CHECK(so_far.num_documents > last);
    last = so_far.num_documents;
  });
  writer.finish(to_json({.tokenizer = "bytes",
                         .fingerprint = tokenizer->fingerprint(),
                         .vocab_size = 257,
                         .eod_id = 256,
                         .num_documents = counts.num_documents,
                         .num_tokens = counts.num_tokens,
                         .num_text_bytes = counts.num_text_bytes}));
  return counts;
}

}  // namespace

TEST_CASE("documents keep their order on any number of threads and end in an end of document") {
  const TempFolder folder;
  const std::string text = many_lines();
  write_bytes(folder / "text", text);
  const CorpusCounts counts = tokenize(folder / "text", folder / "t1", 1);
  for (const int num_threads : {2, 3, 7}) {
    const std::string prefix = folder / ("t" + std::to_string(num_threads));
    tokenize(folder / "text", prefix, num_threads);
    CHECK(read_bytes(prefix + ".bin") == read_bytes(folder / "t1.bin"));
    CHECK(read_bytes(prefix + ".idx") == read_bytes(folder / "t1.idx"));
  }
  const IndexedDataset dataset(folder / "t1");
  CHECK(dataset.num_documents() == counts.num_documents);
  CHECK(dataset.num_tokens() == counts.num_tokens);
  CHECK(counts.num_text_bytes + counts.num_documents == counts.num_tokens);
  CHECK(counts.num_lossy_documents == 0);
  std::vector<int32_t> tokens(static_cast<size_t>(dataset.num_tokens()));
  dataset.read(0, tokens, 257);
  std::string back;
  for (const int32_t token : tokens) back += token == 256 ? '\n' : static_cast<char>(token);
  CHECK(back == text);
}

TEST_CASE("an error in the text leaves no files") {
  const TempFolder folder;
  write_bytes(folder / "bad.jsonl", "{\"text\": \"fine\"}\n{\"text\": 7}\n");
  CHECK_THROWS_WITH(tokenize(folder / "bad.jsonl", folder / "out", 2), Contains("bad.jsonl:2"));
  CHECK(folder.num_files() == 1);
}

TEST_CASE("the note tells tokenizers apart") {
  const TempFolder folder;
  write_bytes(folder / "text", "one\ntwo\n");
  tokenize(folder / "text", folder / "t", 1);
  const auto note = read_dataset_note(folder / "t");
  REQUIRE(note);
  CHECK(note->tokenizer == "bytes");
  CHECK(note->num_documents == 2);
  CHECK(note->num_tokens == 8);
  CHECK(note->num_text_bytes == 6);
  const auto tokenizer = open_tokenizer("bytes");
  CHECK_NOTHROW(check_same_tokenizer(folder / "t", *tokenizer));
  CHECK_FALSE(read_dataset_note(folder / "none"));
  CHECK_NOTHROW(check_same_tokenizer(folder / "none", *tokenizer));
  DatasetNote other = *note;
  other.fingerprint = "sentencepiece-0";
  write_bytes(note_path(folder / "t"), to_json(other));
  CHECK_THROWS_WITH(check_same_tokenizer(folder / "t", *tokenizer), Contains("made with another tokenizer"));
  for (const char* wrong : {"", "{", "[]", "{\"tokenizer\": 1}"}) {
    write_bytes(note_path(folder / "t"), wrong);
    CHECK_THROWS_WITH(read_dataset_note(folder / "t"), Contains("t.note.json is damaged"));
  }
  for (const int64_t vocab_size : {int64_t{-5}, int64_t{0}, int64_t{1} << 40}) {
    other.vocab_size = vocab_size;
    write_bytes(note_path(folder / "t"), to_json(other));
    CHECK_THROWS_WITH(read_dataset_note(folder / "t"), Contains("t.note.json is damaged"));
  }
}

TEST_CASE("a config's data message opens its streams") {
  const TempFolder folder;
  write_bytes(folder / "text", std::string(100, 'a') + "\n" + std::string(50, 'b') + "\n");
  tokenize(folder / "text", folder / "t", 1);
  DataConfig config;
  config.set_seq_len(20);
  const auto tokenizer = open_tokenizer("bytes");
  CHECK_THROWS_WITH(open_training_stream(config, 257, 1, tokenizer.get()), Contains("data.train"));
  CHECK_THROWS_WITH(open_validation_stream(config, 257, tokenizer.get()), Contains("data.validation"));
  config.add_train()->set_prefix(folder / "t");
  config.add_validation()->set_prefix(folder / "t");
  config.set_mask_documents(true);
  const auto training = open_training_stream(config, 257, 1, nullptr);
  CHECK(training->num_samples() == SampleStream::kEndless);
  CHECK(training->seq_len() == 20);
  const auto validation = open_validation_stream(config, 257, tokenizer.get());
  CHECK(validation->num_samples() == 8);  // 151 targets
  Sample sample;
  validation->read(5, sample);
  CHECK(sample.document_starts == std::vector<int32_t>{0, 1});  // token 100 ends the first document
  config.mutable_train(0)->set_prefix(folder / "missing");
  CHECK_THROWS_WITH(open_training_stream(config, 257, 1, tokenizer.get()), Contains("missing.idx"));
}
