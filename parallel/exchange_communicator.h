// parallel/exchange_communicator.h: every verb of Communicator, written once over Exchange.
//
// A back end says who it is, on which machines the ranks are, and how an Exchange travels. What is summed, in which
// order, and what counts as sent is decided here, so that back ends agree bitwise and to the byte.
#pragma once

#include "parallel/communicator.h"
#include "parallel/exchange.h"

namespace shoal {

// Longer messages are cut.
constexpr int64_t kMaxMessageBytes = int64_t{256} << 20;

// Up to this size all_reduce sends its whole tensor to every rank and sums there: one trip instead of two. Either way
// an element is the sum over ranks in ascending order, so the result is bitwise the same.
constexpr int64_t kAllReduceInOneRoundBytes = 16 << 10;

class ExchangeCommunicator : public Communicator {
 public:
  OperationPtr all_to_all_rows(Tensor out, std::vector<int64_t> out_rows, Tensor in,
                               std::vector<int64_t> in_rows) final;
  OperationPtr all_gather(Tensor out, Tensor piece) final;
  OperationPtr all_gather_rows(Tensor out, std::vector<int64_t> rows, Tensor piece) final;
  OperationPtr reduce_scatter(Tensor out, Tensor in, Tensor onto = {}) final;
  OperationPtr reduce_scatter_rows(Tensor out, Tensor in, std::vector<int64_t> rows) final;
  OperationPtr all_reduce(Tensor x) final;
  OperationPtr broadcast(Tensor x, int root) final;
  OperationPtr barrier() final;
  WireBytes bytes() const final { return bytes_; }
  void set_name(std::string_view name) final;
  std::shared_ptr<FlightRecorder> flight() const final { return flight_; }
  ~ExchangeCommunicator() override;

 protected:
  // Received pieces await their sum in memory from `scratch`, which must outlive the operations; a group of one needs
  // none (null).
  ExchangeCommunicator(Allocator* scratch, int64_t max_message_bytes)
      : scratch_(scratch), max_message_bytes_(max_message_bytes) {}

  // Starts an exchange whose tensors have storage; what its caller waits for: usually the exchange itself.
  virtual OperationPtr start(std::shared_ptr<Exchange> exchange) = 0;
  // Where copies and sums of such a tensor's bytes run: in its own queue's order; null: on the host.
  virtual CudaQueue local_queue(const Tensor& x) const { return x.queue(); }
  // What an exchange of simulated tensors is: its messages have sizes and no addresses. Here it takes no time.
  virtual OperationPtr play(const std::vector<Round>& rounds, std::vector<Tensor> buffers);

  enum class Completion { kKnown, kOnDevice };
  // Records this group's calls, from the first on. id() and size() must be known.
  void record_in(std::shared_ptr<FlightRecorder> flight, Completion completion = Completion::kKnown);

  Allocator* scratch() const { return scratch_; }
  int64_t max_message_bytes() const { return max_message_bytes_; }
  // This rank's index in the list of a new group; throws unless the list is one.
  int index_in_group(const std::vector<int>& ranks) const;

 private:
  Round new_round(const Tensor& like);
  void add_messages(std::vector<Message>& messages, int peer, const Tensor& x, int64_t begin, int64_t bytes) const;
  void add_send(Round& round, int peer, const Tensor& x, int64_t begin, int64_t count);
  void add_receive(Round& round, int peer, const Tensor& x, int64_t begin, int64_t count) const;
  void count_own(const Tensor& x, int64_t count);
  Tensor scratch_for(int64_t pieces, int64_t count, const Tensor& like) const;
  Round gather_round(const Tensor& out, const std::vector<int64_t>& begins, const std::vector<int64_t>& counts);
  Round reduce_round(Tensor out, const Tensor& in, const Tensor& onto, const std::vector<int64_t>& begins,
                     const std::vector<int64_t>& counts, std::vector<Tensor>& buffers);
  OperationPtr gather(const CollectiveCall& call, const Tensor& out, const std::vector<int64_t>& counts,
                      const Tensor& piece);
  OperationPtr reduce(const CollectiveCall& call, const Tensor& out, const Tensor& in, const Tensor& onto,
                      const std::vector<int64_t>& counts);
  OperationPtr all_reduce_in_one_round(Tensor x);
  OperationPtr post(const CollectiveCall& call, std::vector<Round> rounds, std::vector<Tensor> buffers,
                    DeviceKind device);

  Allocator* scratch_;
  int64_t max_message_bytes_;
  std::shared_ptr<const std::string> name_;
  std::shared_ptr<FlightRecorder> flight_;
  int flight_slot_ = -1;
  CollectiveCall last_call_;
  int64_t next_tag_ = 0;
  WireBytes bytes_;
};

}  // namespace shoal
